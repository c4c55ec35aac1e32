package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"helm.sh/helm/v3/pkg/registry"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// PullOptions say how a registry is reached.
type PullOptions struct {
	// Username and Password sign in; both empty: anonymously, or as the operator's docker configuration says.
	Username, Password string
	// PlainHTTP talks without TLS.
	PlainHTTP bool
}

// Pull downloads a packaged chart from an OCI registry. reference begins with oci://, version is its tag.
func Pull(ctx context.Context, reference, version string, o PullOptions) ([]byte, error) {
	ref, ok := strings.CutPrefix(reference, registry.OCIScheme+"://")
	if !ok {
		return nil, fmt.Errorf("%s does not begin with oci://", reference)
	}
	// Helm's own credentials file is left alone: what signs in is what the inventory says
	none, err := os.MkdirTemp("", "catamaran-registry-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(none) }() // an empty folder below the system's temporary one
	options := []registry.ClientOption{
		registry.ClientOptWriter(io.Discard),
		registry.ClientOptHTTPClient(&http.Client{Transport: withContext{ctx, http.DefaultTransport}}),
		registry.ClientOptCredentialsFile(filepath.Join(none, "config.json")),
	}
	if o.Username != "" || o.Password != "" {
		options = append(options, registry.ClientOptBasicAuth(o.Username, o.Password))
	}
	if o.PlainHTTP {
		options = append(options, registry.ClientOptPlainHTTP())
	}
	client, err := registry.NewClient(options...)
	if err != nil {
		return nil, err
	}
	result, err := client.Pull(ref+":"+version, registry.PullOptWithChart(true))
	if err != nil {
		return nil, pullError(ctx, ref, version, o, err)
	}
	return result.Chart.Data, nil
}

// pullError turns what the registry said into what the operator can do about it.
func pullError(ctx context.Context, ref, version string, o PullOptions, err error) error {
	host, _, _ := strings.Cut(ref, "/")
	var response *errcode.ErrorResponse
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("pulling %s:%s was stopped: %w", ref, version, ctx.Err())
	case errors.As(err, &response) && (response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden):
		who := "an anonymous user; set username and password of the release"
		if o.Username != "" {
			who = fmt.Sprintf("user %q; check username and password of the release", o.Username)
		}
		return fmt.Errorf("registry %s refused %s:%s (HTTP %d) to %s", host, ref, version, response.StatusCode, who)
	case strings.Contains(err.Error(), "basic credential not found"):
		return fmt.Errorf("registry %s refused %s:%s to an anonymous user; set username and password of the release", host, ref, version)
	case errors.As(err, &response) && response.StatusCode == http.StatusNotFound, strings.HasSuffix(err.Error(), "not found"):
		return fmt.Errorf("registry %s has no %s:%s; check chart and version of the release", host, ref, version)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("registry %s speaks plain HTTP, charts are pulled over TLS", host)
	}
	text := err.Error()
	if o.Password != "" {
		text = strings.ReplaceAll(text, o.Password, "<password>")
	}
	return fmt.Errorf("pulling %s:%s: %s", ref, version, text)
}

// withContext ends requests when ctx ends, for libraries that take no context.
type withContext struct {
	ctx  context.Context
	next http.RoundTripper
}

func (t withContext) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	// a request that carries no deadline of its own takes over ours
	if r.Context().Done() == nil {
		r = r.WithContext(t.ctx)
	}
	return t.next.RoundTrip(r)
}
