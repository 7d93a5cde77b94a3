package statpage

// OwnFile returns the descriptor of the process's page.
func OwnFile() int { return own.file.fd }
