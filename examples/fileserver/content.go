package main

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// randomFile is the name of the generated file, and of the one that is fetched when no other is
// named.
const randomFile = "random.bin"

// content returns the file that was named, or one of random content, which cleanUp removes.
func (o options) content() (file string, cleanUp func(), err error) {
	if o.file != "" {
		file = filepath.Join(o.dir, o.file)
		_, err = os.Stat(file)
		return file, func() {}, err
	}
	dir, err := os.MkdirTemp("", "fileserver")
	if err != nil {
		return "", nil, err
	}
	cleanUp = func() { os.RemoveAll(dir) }
	file = filepath.Join(dir, randomFile)
	if err := generate(file, o.size); err != nil {
		cleanUp()
		return "", nil, err
	}
	return file, cleanUp, nil
}

func generate(file string, size int64) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.CopyN(f, rand.Reader, size)
	return err
}
