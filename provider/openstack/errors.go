package openstack

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/catamaran-k8s/catamaran/provider"
)

// explain says an error of the cloud in the operator's terms: what was tried, what the cloud said, what to do.
func explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("openstack: %s: %w", what, cause)
	}
	if errors.Is(err, provider.ErrPermanent) {
		return fmt.Errorf("openstack: %s: %w", what, err)
	}
	if code, method, address, said := answer(err); code != 0 {
		return explainCode(what, code, method, address, said)
	}
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	if errors.As(err, &authority) || errors.As(err, &host) {
		return permanent("openstack: %s: the certificate of the API is not trusted (%s); name its authority as cacert in clouds.yaml or in OS_CACERT", what, plain(err))
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return permanent("openstack: %s: there is no host %s; look at auth_url in clouds.yaml or at OS_AUTH_URL", what, dns.Name)
	}
	if _, ok := errors.AsType[*gophercloud.ErrEndpointNotFound](err); ok {
		return permanent("openstack: %s: the cloud's catalog has no such service in this region; look at region_name in clouds.yaml or at OS_REGION_NAME", what)
	}
	return fmt.Errorf("openstack: %s: %s: %w", what, plain(err), errPassing)
}

// errPassing marks what may go well the next time.
var errPassing = errors.New("it may work when it is tried again")

func explainCode(what string, code int, method, address string, said message) error {
	where := method + " " + address
	switch {
	case code == http.StatusUnauthorized:
		return permanent("openstack: %s: the cloud refuses the credentials: %s; look at clouds.yaml and secure.yaml, or at the OS_* variables", what, said.text)
	case said.quota():
		return permanent("openstack: %s: the quota is not enough: %s; ask for more, or delete something", what, said.text)
	case code == http.StatusForbidden:
		return permanent("openstack: %s: the credentials may not do this (%s): %s; README.md of provider/openstack lists the roles", what, where, said.text)
	case code == http.StatusNotAcceptable:
		return permanent("openstack: %s: the API is too old: %s", what, said.text)
	case slices.Contains([]int{http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusNotImplemented}, code),
		code == http.StatusConflict && said.final():
		return permanent("openstack: %s: the cloud refuses it (%s: %d): %s", what, where, code, said.text)
	case code == http.StatusTooManyRequests:
		return fmt.Errorf("openstack: %s: too many requests, and the cloud did not become free: %s: %w", what, said.text, errPassing)
	}
	return fmt.Errorf("openstack: %s: the cloud failed (%s: %d): %s: %w", what, where, code, said.text, errPassing)
}

// message is what an API said about a failure.
type message struct{ kind, text string }

func (m message) quota() bool {
	return m.kind == "OverQuota" || strings.Contains(m.text, "uota exceeded") || strings.Contains(m.text, "exceeds allowed") ||
		strings.Contains(m.text, "uota reached") || strings.Contains(m.text, "uota has been met")
}

// final tells conflicts that stay from those that pass when something else is done.
func (m message) final() bool {
	return slices.Contains([]string{"IpAddressAlreadyAllocated", "IpAddressInUse", "OverQuota", "ExternalIpAddressExhausted", "IpAddressGenerationFailure"}, m.kind)
}

// answer is the last refusal in an error; code is 0 where there is none.
func answer(err error) (code int, method, address string, said message) {
	refusal, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	if again, isAgain := errors.AsType[*gophercloud.ErrErrorAfterReauthentication](err); isAgain {
		refusal, ok = errors.AsType[gophercloud.ErrUnexpectedResponseCode](again.ErrOriginal)
	}
	if reauth, isReauth := errors.AsType[*gophercloud.ErrUnableToReauthenticate](err); isReauth {
		refusal, ok = errors.AsType[gophercloud.ErrUnexpectedResponseCode](reauth.ErrReauth)
	}
	if !ok {
		return 0, "", "", message{}
	}
	address = refusal.URL
	if u, err := url.Parse(refusal.URL); err == nil {
		address = u.Host + u.Path
	}
	return refusal.Actual, refusal.Method, address, read(refusal.Body)
}

// read finds the sentence in what an API answered. Each service wraps it in its own way.
func read(body []byte) message {
	var m message
	var found func(v any)
	found = func(v any) {
		object, ok := v.(map[string]any)
		if !ok {
			return
		}
		for _, key := range []string{"message", "faultstring", "detail"} {
			if s, ok := object[key].(string); ok && m.text == "" {
				m.text = s
			}
		}
		if s, ok := object["type"].(string); ok && m.kind == "" {
			m.kind = s
		}
		if m.text != "" {
			return
		}
		for _, inner := range object {
			found(inner)
		}
	}
	var v any
	if json.Unmarshal(body, &v) == nil {
		found(v)
	}
	if m.text == "" {
		m.text = string(body)
	}
	m.text = strings.Join(strings.Fields(m.text), " ")
	// nova says what it refuses as a whole, which may be user data with a private key in it
	if before, _, cut := strings.Cut(m.text, " Value: "); cut {
		m.text = before
	}
	if len(m.text) > 400 {
		m.text = m.text[:400] + "..."
	}
	if m.text == "" {
		m.text = "it gave no reason"
	}
	return m
}

// plain is an error without the address that net/http puts before it.
func plain(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		host := u.URL
		if parsed, perr := url.Parse(u.URL); perr == nil {
			host = parsed.Host
		}
		return fmt.Sprintf("%s: %v", host, u.Err)
	}
	return err.Error()
}

// code is the status of a refusal, or 0.
func code(err error) int {
	c, _, _, _ := answer(err)
	return c
}

func notFound(err error) bool { return code(err) == http.StatusNotFound }

// nearest are the names that are most alike, for somebody who has mistyped one.
func nearest(name string, all []string) string {
	type candidate struct {
		name     string
		distance int
	}
	var out []candidate
	for _, n := range all {
		out = append(out, candidate{n, levenshtein.ComputeDistance(strings.ToLower(name), strings.ToLower(n))})
	}
	slices.SortFunc(out, func(a, b candidate) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	out = slices.CompactFunc(out, func(a, b candidate) bool { return a.name == b.name })
	if len(out) == 0 {
		return "there is none at all"
	}
	var words []string
	for _, c := range out[:min(len(out), 3)] {
		words = append(words, c.name)
	}
	return "the nearest are " + strings.Join(words, ", ")
}
