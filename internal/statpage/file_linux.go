package statpage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fileName is what /proc shows of the file.
const fileName = "iwarp-stats"

// file is a memfd, which only this process can write.
type file struct {
	fd            int
	device, inode uint64
	memory        []byte // of all records that there may be; what lies beyond the end of the file must not be touched
}

// create makes a file that has a header.
func create() (*file, error) {
	// Kernels before 6.3 do not know the flag, and later ones may insist on it.
	fd, err := unix.MemfdCreate(fileName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(fileName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := &file{fd: fd}
	if err := f.open(); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return f, nil
}

func (f *file) open() error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	f.device, f.inode = uint64(st.Dev), st.Ino
	// Not by ftruncate, as memory that is not there when it is written to would end the process.
	if err := unix.Fallocate(f.fd, 0, 0, headerSize); err != nil {
		return os.NewSyscallError("fallocate", err)
	}
	m, err := unix.Mmap(f.fd, 0, headerSize+maxRecords*recordSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	f.memory = m
	// Whoever opens the file can neither shorten it nor write to it, the latter since Linux 5.1.
	if _, err := unix.FcntlInt(uintptr(f.fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_FUTURE_WRITE); err != nil {
		_, err = unix.FcntlInt(uintptr(f.fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
		if err != nil {
			_ = unix.Munmap(m)
			return os.NewSyscallError("fcntl", err)
		}
	}
	return nil
}

var errClosed = errors.New("descriptor of the statistics page was closed")

// grow returns n bytes more, which begin at off.
func (f *file) grow(off, n int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil || uint64(st.Dev) != f.device || st.Ino != f.inode {
		return nil, errClosed // as by a program that closes all it does not know
	}
	if err := unix.Fallocate(f.fd, 0, int64(off), int64(n)); err != nil {
		return nil, os.NewSyscallError("fallocate", err)
	}
	return f.memory[off : off+n], nil
}

// netns returns the inode of the network namespace of the calling thread, or 0.
func netns() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &st) != nil {
		return 0
	}
	return st.Ino
}
