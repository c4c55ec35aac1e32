package remote

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
)

// Jumps shares connections to jump hosts: 200 machines behind one bastion use one connection to it. Key files are
// opened once for all, because opening an encrypted one is slow on purpose.
type Jumps struct {
	mu    sync.Mutex
	hosts map[string]*Host
	keys  *keyring
}

// NewJumps returns an empty pool.
func NewJumps() *Jumps { return &Jumps{hosts: map[string]*Host{}, keys: newKeyring()} }

// dial connects to addr through the chain, or directly where it is empty.
func (j *Jumps) dial(ctx context.Context, chain []Target, addr string) (net.Conn, error) {
	if len(chain) == 0 {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	last := chain[len(chain)-1]
	last.Jump = chain[:len(chain)-1]
	conn, err := j.host(last).Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("through jump host %s: %w", last.Address, err)
	}
	return conn, nil
}

// host returns the connection to a jump host. All that decides whether it is the right one is part of the key.
func (j *Jumps) host(t Target) *Host {
	var key strings.Builder
	for _, hop := range append(t.Jump[:len(t.Jump):len(t.Jump)], t) {
		fmt.Fprintf(&key, "%q@%q:%d %q %t %q %q\n", hop.User, hop.Address, hop.Port, hop.KeyFiles, hop.Agent, hop.HostKeys, hop.KnownHosts)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	h, ok := j.hosts[key.String()]
	if !ok {
		h = New(t, WithJumps(j))
		j.hosts[key.String()] = h
	}
	return h
}

// Close ends the connections to all jump hosts.
func (j *Jumps) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, h := range j.hosts {
		_ = h.Close() // the machines behind it are closed already
	}
}
