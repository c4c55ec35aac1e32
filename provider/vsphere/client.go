package vsphere

// The session: signing in, going on after the vCenter forgot us, signing out.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// farewell bounds what is tidied up on the server when a call ends, cut off or not.
const farewell = 5 * time.Second

// attempts is how often a call is made when its session, or what lives in it, is lost in between.
const attempts = 4

// client is one session of one call.
type client struct {
	*vim25.Client
	account  account
	soap     *soap.Client
	shared   chan struct{}
	patience time.Duration

	mu     sync.Mutex // one signs in again, the others wait for it
	age    int        // how often it was signed in
	tagged *tags.Manager
}

// connect signs in.
func connect(ctx context.Context, a account) (*client, error) {
	sc := soap.NewClient(a.url, false)
	sc.UserAgent = "catamaran"
	if a.pin != nil {
		pin(sc.DefaultTransport().TLSClientConfig, a)
	}
	if a.caFiles != "" {
		if err := sc.SetRootCAs(a.caFiles); err != nil {
			return nil, permanent("the authority of the vCenter: %w", err)
		}
	}
	if err := sc.LoadThumbprints(a.knownHosts); err != nil {
		return nil, permanent("GOVC_TLS_KNOWN_HOSTS: %w", err)
	}
	vc, err := vim25.NewClient(ctx, sc)
	if err != nil {
		return nil, fmt.Errorf("reach the vCenter %s: %w", a.url.Host, err)
	}
	c := &client{Client: vc, account: a, soap: sc}
	if err := session.NewManager(vc).Login(ctx, a.user); err != nil {
		return nil, fmt.Errorf("sign in to the vCenter %s: %w", a.url.Host, err)
	}
	vc.RoundTripper = c
	return c, nil
}

// pin accepts one certificate, whoever signed it, and no other.
func pin(config *tls.Config, a account) {
	config.InsecureSkipVerify = true // VerifyConnection compares the certificate itself
	config.VerifyConnection = func(s tls.ConnectionState) error {
		sum := sha256.Sum256(s.PeerCertificates[0].Raw)
		if bytes.Equal(sum[:], a.pin) {
			return nil
		}
		return permanent("the vCenter %s shows the thumbprint %X, the inventory pins %X: if its certificate was renewed, check it and pin "+
			"the new one; if not, somebody is in between", a.url.Host, sum, a.pin)
	}
}

// close signs out, also where the call was cut off: sessions are scarce.
func (c *client) close() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if c.tagged != nil {
		_ = c.tagged.Logout(ctx) // the server forgets it by itself
	}
	_ = session.NewManager(c.Client).Logout(ctx)
	c.soap.CloseIdleConnections()
}

// RoundTrip is one call. When the session has expired it signs in again and repeats the call, which the vCenter did not carry out.
func (c *client) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	switch req.(type) {
	case *methods.LoginBody, *methods.LogoutBody:
		return c.soap.RoundTrip(ctx, req, res) // renew holds the lock
	}
	for attempt := 1; ; attempt++ {
		c.mu.Lock()
		age := c.age
		c.mu.Unlock()
		err := c.soap.RoundTrip(ctx, req, res)
		if attempt == attempts || !fault.Is(err, &types.NotAuthenticated{}) {
			return err
		}
		if err := c.renew(ctx, age); err != nil {
			return err
		}
		reflect.ValueOf(res).Elem().SetZero() // it holds the fault
	}
}

// renew signs in again, once for all calls that saw the session of an age expire.
func (c *client) renew(ctx context.Context, age int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.age != age {
		return nil
	}
	if err := session.NewManager(c.Client).Login(ctx, c.account.user); err != nil {
		return fmt.Errorf("sign in to %s again, the session had expired: %w", c.account.url.Host, err)
	}
	c.age++
	return nil
}

// tagging calls do with the API for tags, which has a session of its own, and again when that has expired.
func (c *client) tagging(ctx context.Context, do func(*tags.Manager) error) error {
	if c.tagged == nil {
		m := tags.NewManager(rest.NewClient(c.Client))
		if err := m.Login(ctx, c.account.user); err != nil {
			return fmt.Errorf("sign in to the tagging API of %s: %w", c.account.url.Host, tagFault(err))
		}
		c.tagged = m
	}
	for attempt := 1; ; attempt++ {
		err := do(c.tagged)
		if attempt == attempts || !rest.IsStatusError(err, http.StatusUnauthorized) {
			return tagFault(err)
		}
		if err := c.tagged.Login(ctx, c.account.user); err != nil {
			return fmt.Errorf("sign in to the tagging API of %s again, the session had expired: %w", c.account.url.Host, tagFault(err))
		}
	}
}

// tagFault marks the refusals of the tagging API, which are no faults of the other API.
func tagFault(err error) error {
	switch {
	case rest.IsStatusError(err, http.StatusUnauthorized):
		return permanent("the vCenter refuses the user name or the password: check GOVC_USERNAME and GOVC_PASSWORD: %w", err)
	case rest.IsStatusError(err, http.StatusForbidden):
		return permanent("the account lacks a privilege for tags (InventoryService.Tagging.*; provider/vsphere/README.md lists them): %w", err)
	}
	return err
}

// hold calls do while nobody else of this process makes or takes away what the site's clusters share.
func (c *client) hold(ctx context.Context, do func() error) error {
	select {
	case c.shared <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.shared }()
	return do()
}
