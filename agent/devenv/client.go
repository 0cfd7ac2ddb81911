package devenv

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// newClient makes a client for downloads.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: connectLimit}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots()},
		TLSHandshakeTimeout:   connectLimit,
		ResponseHeaderTimeout: stallLimit,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true,
	}}
}

// roots are whom to trust: nil for those of the image, Mozilla's if it has none,
// as many small images do.
func roots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err == nil && !pool.Equal(x509.NewCertPool()) {
		return nil
	}
	pool = x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			continue // one that this Go cannot use is one that it does not trust
		}
		pool.AddCertWithConstraint(cert, root.Constraint)
	}
	return pool
}
