package proc

import "golang.org/x/sys/unix"

// inode returns the inode number of a file.
func inode(name string) (number uint64, ok bool) {
	var st unix.Stat_t
	if unix.Stat(name, &st) != nil {
		return 0, false
	}
	return st.Ino, true
}
