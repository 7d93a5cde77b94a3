// Package manual writes the manual pages of programs.
package manual

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func oneDirectory(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("man takes the directory that the manual pages are written into")
	}
	return nil
}

// Command returns a hidden command that writes the page of a program, of section 8, into a
// directory.
func Command(program *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man DIRECTORY", Short: "Write the manual page", Hidden: true, Args: oneDirectory,
		RunE: func(_ *cobra.Command, args []string) error {
			program.DisableAutoGenTag = true
			header := doc.GenManHeader{Title: strings.ToUpper(program.Name()), Section: "8", Source: "iwarp"}
			return doc.GenManTree(program, &header, args[0])
		},
	}
}
