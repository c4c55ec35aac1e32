// Package sshdtest runs a real sshd for tests, with users of its own, and links to it that can be cut and stalled.
package sshdtest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"embed"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

//go:embed sshd.sh standin
var files embed.FS

// Password is that of every user but root; sshd.sh has its hash. It is a secret canary: no text may show it.
const Password = "canary-sudo-pw"

// Server is a real sshd in namespaces of its own.
type Server struct {
	Port     int
	dir      string
	HostKeys map[string]ssh.Signer // host keys by type
	Client   string                // private key file that every user accepts
	Log      *Buffer
}

// Start runs sshd until the test ends. config lines come before the defaults, so they win.
func Start(t *testing.T, config ...string) *Server {
	t.Helper()
	require.Zero(t, os.Getuid(), "these tests run a real sshd with users of its own in a mount namespace: run them as root")
	for program, pkg := range map[string]string{"sshd": "openssh-server", "ssh-agent": "openssh-client", "scp": "openssh-client", "sudo": "sudo", "unshare": "util-linux"} {
		_, err := exec.LookPath(program)
		if err != nil && program == "sshd" {
			_, err = os.Stat("/usr/sbin/sshd")
		}
		require.NoError(t, err, "install the package %s", pkg)
	}
	s := &Server{dir: t.TempDir(), HostKeys: map[string]ssh.Signer{}, Log: &Buffer{}}
	for _, kind := range []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoRSA} {
		s.HostKeys[kind] = WriteKey(t, filepath.Join(s.dir, "host_"+kind), kind, "")
	}
	s.Client = filepath.Join(s.dir, "client")
	pub := WriteKey(t, s.Client, ssh.KeyAlgoED25519, "").PublicKey()
	s.write(t, "authorized_keys", string(ssh.MarshalAuthorizedKey(pub)))
	require.NoError(t, os.CopyFS(s.dir, files))
	lines := append(config, "PidFile none", "UsePAM no", "StrictModes no", "PasswordAuthentication no", "PermitRootLogin yes",
		"AuthorizedKeysFile /run/keys/authorized_keys", "MaxStartups 100:30:200", "PerSourcePenalties no", "LogLevel INFO")
	if !strings.Contains(strings.Join(config, "\n"), "HostKey ") {
		for kind := range s.HostKeys {
			lines = append(lines, "HostKey /run/private/host_"+kind)
		}
	}
	for attempt := 0; ; attempt++ {
		if s.start(t, lines) {
			return s
		}
		require.Less(t, attempt, 5, "sshd does not start: %s", s.Log)
	}
}

func (s *Server) write(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600))
}

// start runs sshd on a free port, and says whether the port was still free.
func (s *Server) start(t *testing.T, lines []string) bool {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.Port = l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	known := []string{}
	for _, line := range lines {
		if !strings.HasPrefix(line, "PerSourcePenalties") || sshdKnows("PerSourcePenalties") {
			known = append(known, line)
		}
	}
	s.write(t, "sshd_config", strings.Join(append(known, fmt.Sprintf("ListenAddress 127.0.0.1:%d", s.Port)), "\n")+"\n")
	c := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "private", "sh", filepath.Join(s.dir, "sshd.sh"), s.dir)
	pipe, err := c.StderrPipe()
	require.NoError(t, err)
	alive, err := c.StdinPipe() // sshd.sh ends with it
	require.NoError(t, err)
	require.NoError(t, c.Start())
	listening, ended := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(ended)
		sc := bufio.NewScanner(pipe)
		for sc.Scan() {
			_, _ = fmt.Fprintln(s.Log, sc.Text())
			if strings.HasPrefix(sc.Text(), "Server listening on") {
				listening <- true
			}
		}
		select {
		case listening <- false:
		default:
		}
		_ = c.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = alive.Close()    // fails when it never listened
		_ = c.Process.Kill() // as above; --kill-child takes sshd and all its sessions along
		<-ended
		require.NotContains(t, s.Log.String(), Password)
	})
	return <-listening
}

// sshdKnows says whether this version of sshd has an option.
func sshdKnows(option string) bool {
	out, _ := exec.Command("/usr/sbin/sshd", "-T", "-o", option+"=no", "-h", "/nowhere").CombinedOutput() // fails either way
	return !bytes.Contains(out, []byte("Bad configuration option"))
}

// WriteKey makes a private key file and its .pub beside it.
func WriteKey(t *testing.T, file, kind, passphrase string) ssh.Signer {
	t.Helper()
	var key any
	var err error
	switch kind {
	case ssh.KeyAlgoED25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case ssh.KeyAlgoECDSA256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ssh.KeyAlgoRSA:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	require.NoError(t, err)
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	s, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file+".pub", ssh.MarshalAuthorizedKey(s.PublicKey()), 0o600))
	return s
}

// Buffer collects what several goroutines write.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
