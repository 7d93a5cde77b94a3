package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// tlsOptions are what TLS needs to know of one side.
type tlsOptions struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	CA   string `toml:"ca"`
	Name string `toml:"name"`

	config *tls.Config
}

// loadTLS reads the files of both sides.
func (m *mapping) loadTLS() error {
	if o := m.TLSIn; o != nil {
		if o.Cert == "" || o.Key == "" {
			return errors.New("tls-in needs cert and key")
		}
		if o.Name != "" {
			return errors.New("tls-in has no use for a name")
		}
		roots, err := o.load()
		if err != nil {
			return fmt.Errorf("tls-in: %w", err)
		}
		if o.config.ClientCAs = roots; roots != nil {
			o.config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	if o := m.TLSOut; o != nil {
		if (o.Cert == "") != (o.Key == "") {
			return errors.New("tls-out needs both cert and key, or none")
		}
		roots, err := o.load()
		if err != nil {
			return fmt.Errorf("tls-out: %w", err)
		}
		o.config.RootCAs = roots
		if o.config.ServerName = o.Name; o.Name == "" {
			o.config.ServerName, _, _ = net.SplitHostPort(m.Target.addr)
		}
	}
	return nil
}

// load makes the config, and returns the certificates of CA, nil without one.
func (o *tlsOptions) load() (*x509.CertPool, error) {
	o.config = new(tls.Config)
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, err
		}
		o.config.Certificates = []tls.Certificate{pair}
	}
	if o.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", o.CA)
	}
	return roots, nil
}
