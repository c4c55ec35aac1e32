package helm

import (
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// IsPassing says that an API server did not answer, or not yet, so that trying again may help: it restarts, etcd elects a
// leader, or the link broke. What it refused, and what does not get ready, is not passing. It knows errors of Apply and PutSecret.
func IsPassing(err error) bool {
	var p *passingError
	return errors.As(err, &p)
}

type passingError struct{ err error }

func (e *passingError) Error() string { return e.err.Error() }
func (e *passingError) Unwrap() error { return e.err }

// marked makes an error known to IsPassing if its cause, which may say more, is a passing one.
func marked(shown, cause error) error {
	if !passing(cause) {
		return shown
	}
	return &passingError{shown}
}

func passing(err error) bool {
	if err == nil {
		return false
	}
	var unready *NotReadyError
	if errors.As(err, &unready) {
		return false
	}
	if apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsHTTP2ConnectionLost(err) {
		return true
	}
	// Helm passes some errors on as text only
	text := err.Error()
	for _, passing := range []string{
		"etcdserver: leader changed", "etcdserver: request timed out", "etcdserver: no leader", "etcdserver: too many requests",
		"connection refused", "connection reset by peer", "http2: client connection lost", "unexpected EOF", "TLS handshake timeout",
		"the server is currently unable to handle the request",
	} {
		if strings.Contains(text, passing) {
			return true
		}
	}
	return false
}
