package tamper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
)

// maxBody bounds what is read of an answer, in bytes.
const maxBody = 64 << 10

// session is one credential at one endpoint.
type session struct {
	target Target
	cred   Credential
	vars   vars
	user   string // for SSH
	dial   func(ctx context.Context, address string) (net.Conn, error)
	// timeout bounds one request, behind the dial.
	timeout time.Duration
	// one client for HTTP/1.1 and one for HTTP/2, which only gRPC needs: on HTTP/2 the reason of a refusal is often lost
	http, http2 *http.Client
}

// tlsConfig shows the credential's certificate whatever the server says that it accepts, and accepts any server: an attacker
// would.
func (s *session) tlsConfig() *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // an attack checks nothing
	if cert, ok := s.cred.TLS(); ok {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return c
}

// connect dials and marks the error as one of dialling.
func (s *session) connect(ctx context.Context) (net.Conn, error) {
	conn, err := s.dial(ctx, s.target.Address)
	if err != nil {
		return nil, &dialError{err}
	}
	return conn, nil
}

// client keeps its connection from one request to the next.
func (s *session) client(grpc bool) *http.Client {
	kept := &s.http
	if grpc {
		kept = &s.http2
	}
	if *kept == nil {
		*kept = &http.Client{
			Timeout: s.timeout,
			Transport: &http.Transport{
				DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return s.connect(ctx) },
				TLSClientConfig: s.tlsConfig(), ForceAttemptHTTP2: grpc, MaxIdleConnsPerHost: 1, TLSHandshakeTimeout: s.timeout,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return *kept
}

func (s *session) close() {
	for _, c := range []*http.Client{s.http, s.http2} {
		if c != nil {
			c.CloseIdleConnections()
		}
	}
}

// try sends one request.
func (s *session) try(ctx context.Context, r Request) result {
	ctx, cancel := context.WithTimeout(ctx, 2*s.timeout)
	defer cancel()
	if r.Send != nil {
		return r.Send(ctx, s)
	}
	req, err := s.request(ctx, r)
	if err != nil {
		return result{outcome: Unclear, detail: err.Error()}
	}
	return s.do(req)
}

func (s *session) do(req *http.Request) result {
	res, err := s.client(false).Do(req)
	if err != nil {
		return fromError(err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil && res.StatusCode < 300 {
		return fromError(err) // what was promised did not come
	}
	return fromStatus(res, body)
}

// request builds an HTTP request with the credential in it.
func (s *session) request(ctx context.Context, r Request) (*http.Request, error) {
	body := []byte(s.vars.fill(r.Body))
	header := http.Header{}
	if r.Write != nil {
		body = r.Write(s.vars)
		for k, v := range writeHeader() {
			header.Set(k, v)
		}
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, "https://"+s.target.Address+s.vars.fill(r.Path), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range r.Header {
		header.Set(k, s.vars.fill(v))
	}
	req.Header = header
	if s.target.Role == S3 {
		if id, secret, ok := s.accessKey(); ok {
			sum := sha256.Sum256(body)
			req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
			return signer.SignV4(*req, id, secret, "", s.vars.region), nil
		}
		return req, nil
	}
	if user, password, ok := s.cred.Basic(); ok && s.target.Role == Grafana {
		req.SetBasicAuth(user, password)
	} else if token, ok := s.cred.Bearer(); ok {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// accessKey is the credential as an S3 key; passwords that stand alone are tried as the gateway's.
func (s *session) accessKey() (id, secret string, ok bool) {
	if id, secret, ok = s.cred.AccessKey(); ok {
		return id, secret, true
	}
	if user, password, ok := s.cred.Basic(); ok {
		if s.cred.Subject == "" {
			user = "ingest-gateway"
		}
		return user, password, true
	}
	return "", "", false
}

// plain asks by HTTP without TLS.
func plain(path string) func(context.Context, *session) result {
	return func(ctx context.Context, s *session) result {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.target.Address+path, nil)
		if err != nil {
			return result{outcome: Unclear, detail: err.Error()}
		}
		return s.do(req)
	}
}

// grpcCall makes one unary call with a message that is encoded already.
func grpcCall(method string, message []byte) func(context.Context, *session) result {
	return func(ctx context.Context, s *session) result {
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.target.Address+method, bytes.NewReader(append(frame, message...)))
		if err != nil {
			return result{outcome: Unclear, detail: err.Error()}
		}
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		res, err := s.client(true).Do(req)
		if err != nil {
			return fromError(err)
		}
		defer res.Body.Close() //nolint:errcheck // only read
		if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)); err != nil {
			return fromError(err)
		}
		if res.StatusCode != http.StatusOK {
			return fromStatus(res, nil)
		}
		status := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status")
		out := result{detail: "gRPC status " + status}
		switch status {
		case "0":
			out.outcome = Succeeded
		case "7":
			out.outcome = Forbidden
		case "16":
			out.outcome = Unauthorized
		case "12":
			out.outcome = NoSuchPath
		case "3", "5", "9":
			out.outcome = Rejected
		default:
			out.outcome = Unclear
		}
		return out
	}
}

// uses says which credentials make sense at a role beside none and certificates.
func uses(role Role, k harvest.Kind) bool {
	switch k {
	case "", harvest.ClientCertificate:
		return role != SSH || k != ""
	case harvest.PrivateKey:
		return role == SSH
	case harvest.Token:
		return role == KubeAPI || role == Kubelet || role == Grafana
	case harvest.Password, harvest.Opaque:
		return role == SSH || role == Grafana || role == S3 || role == KubeAPI
	case harvest.AccessKey:
		return role == S3
	}
	return false
}

// sameAs cuts a text for reports.
func sameAs(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > n {
		return text[:n] + "..."
	}
	return text
}
