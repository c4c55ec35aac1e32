// Package remote reaches machines over SSH: dial (through jump hosts), verify host keys, run scripts (as root by
// sudo where needed), copy files, forward connections, and run long work as transient systemd units that outlive a
// lost link. It knows nothing of Kubernetes or inventories.
package remote

import (
	"context"
	"io"
	"net"
	"os"
	"time"
)

// Runner is what the rest of bootstrap needs of a machine. Host implements it over SSH. All methods are safe for
// concurrent use; more than ten scripts and copies at once wait for their turn.
type Runner interface {
	// Name is the machine's name for messages.
	Name() string
	// Run executes a POSIX shell script and returns what it printed. A non-zero exit is an *ExitError (with the
	// Result also returned). Run never retries: a lost link is a passing *Error.
	Run(ctx context.Context, c Command) (Result, error)
	// Copy writes a file: beside its destination first, fsynced, then renamed. Parent folders are made (0755).
	Copy(ctx context.Context, f File) error
	// Dial opens a connection from the machine (port forwarding), such as to its API server on 127.0.0.1:6443.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Close() error
}

// Command is one script. The script is visible in the machine's process list: secrets go through Stdin only.
type Command struct {
	Script string // at most 128 KiB with its quoting
	// Stdin is not used after Run has returned, except by a Read that was already blocked. An error of it ends the script.
	Stdin io.Reader
	// Root runs it as root: directly when the login user is root, else by sudo.
	Root bool
	// Stdout, when set, receives output while it is produced; Result.Stdout is then empty.
	Stdout io.Writer
}

// Result is what a script printed.
type Result struct {
	Stdout, Stderr []byte
	ExitCode       int
}

// File is one file to copy.
type File struct {
	Content io.Reader
	Size    int64 // bytes; must be what Content yields
	Path    string
	Mode    os.FileMode
	Root    bool // write as root, owned by root
	// Progress, when set, is called with the bytes sent so far.
	Progress func(sent int64)
}

// Target says how one machine is reached.
type Target struct {
	Name    string
	Address string
	Port    int
	User    string
	// KeyFiles are private key files; Passphrase is asked once if one is encrypted.
	KeyFiles   []string
	Passphrase func() ([]byte, error)
	// Agent uses the agent at SSH_AUTH_SOCK.
	Agent bool
	// HostKeys are pins: "SHA256:..." fingerprints or authorized_keys style public keys. When empty, KnownHosts files are asked.
	HostKeys   []string
	KnownHosts []string
	// SudoPassword is asked when User is not root and sudo wants a password; nil: sudo -n.
	SudoPassword   func() ([]byte, error)
	Jump           []Target
	ConnectTimeout time.Duration // 0: 10s
	KeepAlive      time.Duration // 0: 5s; three unanswered end the connection
}

// Kind tells callers what an error means for trying again.
type Kind string

// Kinds. Permanent ones fail at once; Passing ones may be tried again.
const (
	Permanent Kind = "permanent" // wrong key, unknown or changed host key, no sudo, bad configuration
	Passing   Kind = "passing"   // refused, timeout, link lost, host gone
)

// Error is a failure to reach or use a machine: what was tried, on which machine, and what to do.
type Error struct {
	Host string // name (address)
	Op   string // dial, handshake, authenticate, host key, sudo, run, copy, forward
	Kind Kind
	Hint string // what to do next, may be empty
	Err  error
}

// ExitError is a script that ended with a non-zero status. Its message holds the last lines of stderr.
type ExitError struct {
	Host   string
	Result Result
}
