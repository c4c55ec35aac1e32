package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
)

// through is a target whose link the test can break.
func through(t *testing.T, s *sshdtest.Server, user string) (Target, *sshdtest.Proxy) {
	p := sshdtest.StartProxy(t, s.Port)
	target := serverTarget(s, user)
	target.Port = p.Port
	return target, p
}

// whenRunning starts a script that never ends and calls then as soon as it runs; it returns how Run ended.
func whenRunning(t *testing.T, h *Host, then func(pid string)) error {
	t.Helper()
	pid := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := h.Run(testContext(t), Command{Script: "echo $$; exec sleep 600", Stdout: writerFunc(func(p []byte) (int, error) {
			pid <- strings.TrimSpace(string(p))
			return len(p), nil
		})})
		ended <- err
	}()
	select {
	case p := <-pid:
		then(p)
	case err := <-ended:
		require.Fail(t, "it ended before it began", "%v", err)
	}
	return <-ended
}

func TestHostGoneMidCommand(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	t.Run("link reset", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		h := connect(t, target)
		requireFails(t, whenRunning(t, h, func(string) { p.Cut() }), Passing, "run", "the link was lost")
		require.Equal(t, "again\n", run1(t, h, Command{Script: "echo again"}), "the next call dials again")
		require.Equal(t, 2, p.Dialled())
	})
	t.Run("the sshd of the connection killed", func(t *testing.T) {
		t.Parallel()
		h := connect(t, serverTarget(s, "root"))
		killer := connect(t, serverTarget(s, "root"))
		err := whenRunning(t, h, func(pid string) {
			run1(t, killer, Command{Script: "kill -9 $(awk '/^PPid/ {print $2}' /proc/" + pid + "/status)"})
		})
		requireFails(t, err, Passing, "run", "the link was lost")
	})
	t.Run("stalled link", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		target.KeepAlive = 2 * time.Second
		h := connect(t, target)
		var begin time.Time
		err := whenRunning(t, h, func(string) { begin = time.Now(); p.Set(true, false) })
		requireFails(t, err, Passing, "run", "the link was lost")
		// nearly three beats, less what the first was seen late; the exact number is the next test's
		require.GreaterOrEqual(t, time.Since(begin), (missedKeepAlives-1)*target.KeepAlive, "a missed beat or two are no lost link")
	})
	t.Run("a slow answer is not a stalled link", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		target.KeepAlive = time.Hour
		h := connect(t, target)
		require.NoError(t, h.Connect(testContext(t)))
		tick := make(chan time.Time)
		go h.link.watch(tick)
		p.Set(true, false)
		for range 5 * missedKeepAlives { // the first asks, no answer comes, but something else does
			tick <- time.Now()
			h.link.conn.received.Add(1)
		}
		require.True(t, h.link.alive())
		for range missedKeepAlives + 1 { // the first still finds the last bytes
			tick <- time.Now()
		}
		<-h.link.dead
	})
	t.Run("a cancelled call on a stalled link returns at once", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		target.KeepAlive = time.Hour
		h := connect(t, target)
		require.NoError(t, h.Connect(testContext(t)))
		p.Set(true, false)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := h.Run(ctx, Command{Script: "true"})
		requireFails(t, err, Passing, "run", "deadline exceeded")
		require.Less(t, time.Since(begin), 30*time.Second, "the next beat would be after an hour")
		require.NoError(t, h.Close()) // what hangs on the link ends with it
	})
}

func TestDialFailures(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		target := serverTarget(s, "root")
		target.Port = l.Addr().(*net.TCPAddr).Port
		require.NoError(t, l.Close())
		requireFails(t, connect(t, target).Connect(testContext(t)), Passing, "dial", "connection refused", "port "+strconv.Itoa(target.Port))
	})
	t.Run("accepts and is silent", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		p.Set(true, false)
		target.ConnectTimeout = 200 * time.Millisecond
		requireFails(t, connect(t, target).Connect(testContext(t)), Passing, "handshake", "does not answer")
	})
	t.Run("hangs up", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		p.Set(false, true)
		requireFails(t, connect(t, target).Connect(testContext(t)), Passing, "handshake")
	})
	t.Run("no such name", func(t *testing.T) {
		t.Parallel()
		target := serverTarget(s, "root")
		target.Address = "no-such-host.invalid"
		requireFails(t, connect(t, target).Connect(testContext(t)), Passing, "dial", "no-such-host.invalid")
	})
	t.Run("everybody waits for one attempt", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		p.Set(true, false)
		target.ConnectTimeout = 300 * time.Millisecond
		h := connect(t, target)
		begin := time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { requireFailsSoft(t, h.Connect(testContext(t)), Passing) })
		}
		all.Wait()
		require.Less(t, time.Since(begin), 10*time.Second, "not one after the other, which takes 15 s")
	})
	t.Run("one caller gives up, the other gets the connection", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		p.Set(true, false)
		h := connect(t, target)
		ctx, cancel := context.WithCancel(context.Background())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- h.Connect(ctx) }()
		go func() { second <- h.Connect(testContext(t)) }()
		p.WaitDialled(1)
		cancel()
		requireFails(t, <-first, Passing, "dial", "context canceled")
		p.Set(false, false)
		require.NoError(t, <-second)
		require.Equal(t, 1, p.Dialled())
	})
	t.Run("close while dialling", func(t *testing.T) {
		t.Parallel()
		target, p := through(t, s, "root")
		p.Set(true, false)
		h := connect(t, target)
		dialling := make(chan error, 1)
		go func() { dialling <- h.Connect(testContext(t)) }()
		p.WaitDialled(1)
		require.NoError(t, h.Close())
		requireFails(t, <-dialling, Passing, "dial", "context canceled")
	})
}

// requireFailsSoft is for goroutines, which may not end the test.
func requireFailsSoft(t *testing.T, err error, kind Kind) {
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("%v is not %s", err, kind)
	}
}

func TestJumpHosts(t *testing.T) {
	t.Parallel()
	first, second, machine := sshdtest.Start(t), sshdtest.Start(t), sshdtest.Start(t)
	// chain is the machine behind both, with the proxy before the first
	chain := func(t *testing.T) (Target, *sshdtest.Proxy) {
		p := sshdtest.StartProxy(t, first.Port)
		hop1, hop2 := serverTarget(first, "plain"), serverTarget(second, "plain")
		hop1.Name, hop1.Port, hop2.Name = "jump-1", p.Port, "jump-2"
		target := serverTarget(machine, "free")
		target.Jump = []Target{hop1, hop2}
		return target, p
	}
	t.Run("two hops", func(t *testing.T) {
		t.Parallel()
		target, _ := chain(t)
		h := connect(t, target)
		require.Equal(t, "root\n", run1(t, h, Command{Script: "id -un", Root: true}))
		require.NoError(t, h.Copy(testContext(t), File{Content: io.LimitReader(&pattern{}, 5<<20), Size: 5 << 20, Path: "/run/through", Mode: 0o600, Root: true}))
	})
	t.Run("hosts share the connections", func(t *testing.T) {
		t.Parallel()
		target, p := chain(t)
		jumps := NewJumps()
		defer jumps.Close()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				h := New(target, WithJumps(jumps))
				defer h.Close() //nolint:errcheck // a test's
				if err := h.Connect(testContext(t)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.Equal(t, 1, p.Dialled())
	})
	t.Run("each is verified", func(t *testing.T) {
		t.Parallel()
		for i, name := range []string{"jump-1", "jump-2"} {
			target, _ := chain(t)
			target.Jump[i].HostKeys = []string{ssh.FingerprintSHA256(machine.HostKeys[ssh.KeyAlgoRSA].PublicKey())}
			requireFails(t, connect(t, target).Connect(testContext(t)), Permanent, "host key", "m1 (127.0.0.1)", name+" (127.0.0.1)", "the pinned key is")
		}
	})
	t.Run("another pin is another connection", func(t *testing.T) {
		t.Parallel()
		target, _ := chain(t)
		jumps := NewJumps()
		defer jumps.Close()
		h := New(target, WithJumps(jumps))
		defer h.Close() //nolint:errcheck // a test's
		require.NoError(t, h.Connect(testContext(t)))
		target.Jump = append([]Target(nil), target.Jump...)
		target.Jump[0].HostKeys = []string{ssh.FingerprintSHA256(machine.HostKeys[ssh.KeyAlgoRSA].PublicKey())}
		requireFails(t, New(target, WithJumps(jumps)).Connect(testContext(t)), Permanent, "host key")
	})
	t.Run("the key of a jump host is wrong", func(t *testing.T) {
		t.Parallel()
		target, _ := chain(t)
		target.Jump[1].KeyFiles = []string{machine.Client}
		requireFails(t, connect(t, target).Connect(testContext(t)), Permanent, "authenticate", "jump-2", "authorized_keys of plain")
	})
	t.Run("the machine behind does not answer", func(t *testing.T) {
		t.Parallel()
		target, _ := chain(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		target.Port = l.Addr().(*net.TCPAddr).Port
		require.NoError(t, l.Close())
		requireFails(t, connect(t, target).Connect(testContext(t)), Passing, "forward", "m1 (127.0.0.1)", "through jump host", "Connection refused")
	})
	t.Run("the link to the first is cut", func(t *testing.T) {
		t.Parallel()
		target, p := chain(t)
		h := connect(t, target)
		requireFails(t, whenRunning(t, h, func(string) { p.Cut() }), Passing, "run")
		require.Equal(t, "again\n", run1(t, h, Command{Script: "echo again"}), "all three are dialled again")
	})
	t.Run("forwarding is forbidden", func(t *testing.T) {
		t.Parallel()
		shut := sshdtest.Start(t, "AllowTcpForwarding no")
		target := serverTarget(machine, "root")
		target.Jump = []Target{serverTarget(shut, "plain")}
		requireFails(t, connect(t, target).Connect(testContext(t)), Permanent, "forward", "AllowTcpForwarding")
	})
}

func TestDial(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	echo := startEcho(t)
	target, p := through(t, s, "root")
	target.KeepAlive = time.Hour // only deadlines end things here
	h := connect(t, target)
	dial := func(t *testing.T) net.Conn {
		t.Helper()
		c, err := h.Dial(testContext(t), "tcp", echo)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	t.Run("there and back", func(t *testing.T) {
		c := dial(t)
		_, err := io.WriteString(c, "hello")
		require.NoError(t, err)
		b := make([]byte, 5)
		_, err = io.ReadFull(c, b)
		require.NoError(t, err)
		require.Equal(t, "hello", string(b))
		_, _, err = net.SplitHostPort(c.RemoteAddr().String())
		require.NoError(t, err)
	})
	t.Run("a deadline that passes", func(t *testing.T) {
		c := dial(t)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		// and the connection is as good as before
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		_, err = io.WriteString(c, "x")
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
	})
	t.Run("nobody listens", func(t *testing.T) {
		_, err := h.Dial(testContext(t), "tcp", "127.0.0.1:1")
		requireFails(t, err, Passing, "forward", "127.0.0.1:1", "Connection refused")
	})
	t.Run("deadlines hold on a stalled link", func(t *testing.T) {
		c := dial(t)
		p.Set(true, false)
		defer p.Set(false, false)
		require.NoError(t, c.SetDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = io.Copy(c, &pattern{}) // as much as fits somewhere, then the deadline
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, c.Close())
	})
	t.Run("the link is cut", func(t *testing.T) {
		c := dial(t)
		p.Cut()
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
}

// startEcho listens on loopback and sends back what it gets.
func startEcho(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close() //nolint:errcheck // a test's
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().String()
}

func TestCopy(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	t.Run("100 MB with digest and progress", func(t *testing.T) {
		t.Parallel()
		const size = 100_000_000
		h := connect(t, serverTarget(s, "root"))
		run1(t, h, Command{Script: "mount -t tmpfs -o size=300m tmpfs /mnt"})
		hash := sha256.New()
		var last int64
		begin := time.Now()
		require.NoError(t, h.Copy(testContext(t), File{
			Content: io.TeeReader(io.LimitReader(&pattern{}, size), hash), Size: size, Path: "/mnt/a/b/blob", Mode: 0o600, Root: true,
			Progress: func(sent int64) { require.Greater(t, sent, last); last = sent },
		}))
		t.Logf("100 MB in %s", time.Since(begin).Round(time.Millisecond))
		require.EqualValues(t, size, last)
		require.Equal(t, hex.EncodeToString(hash.Sum(nil))+"  /mnt/a/b/blob\n", run1(t, h, Command{Script: "sha256sum /mnt/a/b/blob"}))
		require.Equal(t, "755 600 blob\n", run1(t, h, Command{Script: "echo $(stat -c %a /mnt/a /mnt/a/b/blob; ls -A /mnt/a/b)"}))
	})

	for name, c := range map[string]struct {
		user, path, want string
		root             bool
		password         func() ([]byte, error)
	}{
		"root":                      {user: "root", root: true, path: "/run/c/root/file", want: "root 640\n"},
		"sudo":                      {user: "free", root: true, path: "/run/c/free/file", want: "root 640\n"},
		"sudo with a password":      {user: "asks", root: true, password: sudoPassword(canarySudo), path: "/run/c/asks/file", want: "root 640\n"},
		"sudo with a useless one":   {user: "free", root: true, password: sudoPassword(canarySudo), path: "/run/c/useless/file", want: "root 640\n"},
		"the login user's own":      {user: "plain", path: "/home/plain/new/file", want: "plain 640\n"},
		"a name full of surprises":  {user: "root", root: true, path: "/run/c/odd/it's $HOME \"`x\\ ü -rf*", want: "root 640\n"},
		"a name that looks like -t": {user: "root", root: true, path: "/run/c/dash/-t", want: "root 640\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := serverTarget(s, c.user)
			target.SudoPassword = c.password
			h := connect(t, target)
			for _, content := range []string{"first", "", "the second one"} {
				require.NoError(t, h.Copy(testContext(t), File{Content: strings.NewReader(content), Size: int64(len(content)), Path: c.path, Mode: 0o640, Root: c.root}))
				q := quote(c.path)
				require.Equal(t, c.want+content, run1(t, h, Command{Root: c.root, Script: "stat -c '%U %a' -- " + q + "; cat -- " + q + "; ls -A \"$(dirname " + q + ")\" | grep catamaran || true"}))
			}
		})
	}

	for name, c := range map[string]struct {
		file  File
		user  string
		kind  Kind
		words []string
	}{
		"too short":           {user: "root", file: File{Content: strings.NewReader("abc"), Size: 4, Path: "/run/f1/x"}, kind: Permanent, words: []string{"after 3 of 4 bytes"}},
		"too long":            {user: "root", file: File{Content: strings.NewReader("abcde"), Size: 4, Path: "/run/f2/x"}, kind: Permanent, words: []string{"longer than 4 bytes"}},
		"unreadable":          {user: "root", file: File{Content: &failing{errors.New("bad disk")}, Size: 4, Path: "/run/f3/x"}, kind: Permanent, words: []string{"bad disk"}},
		"no right to write":   {user: "plain", file: File{Content: strings.NewReader("abc"), Size: 3, Path: "/run/x"}, kind: Permanent, words: []string{"ermission denied"}},
		"no space":            {user: "root", file: File{Content: io.LimitReader(&pattern{}, 3<<20), Size: 3 << 20, Path: "/media/x"}, kind: Permanent, words: []string{"No space left"}},
		"a folder is there":   {user: "root", file: File{Content: strings.NewReader("abc"), Size: 3, Path: "/run/f5"}, kind: Permanent, words: []string{"it is a folder"}},
		"a path that is none": {user: "root", file: File{Content: strings.NewReader("abc"), Size: 3, Path: "run/x"}, kind: Permanent, words: []string{"not a clean absolute path"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := connect(t, serverTarget(s, c.user))
			root := connect(t, serverTarget(s, "root"))
			if name == "no space" {
				run1(t, root, Command{Script: "mount -t tmpfs -o size=1m tmpfs /media; echo old > /media/x"})
			}
			if name == "a folder is there" {
				run1(t, root, Command{Script: "mkdir /run/f5"})
			}
			c.file.Mode = 0o600
			requireFails(t, h.Copy(testContext(t), c.file), c.kind, "copy", append(c.words, c.file.Path)...)
			left := run1(t, root, Command{Script: fmt.Sprintf("cd %s 2>/dev/null && find . -maxdepth 1 -name '.catamaran*'; cat x 2>/dev/null || true", quote("/"+strings.Trim(c.file.Path[:strings.LastIndex(c.file.Path, "/")], "/")))})
			if name == "no space" {
				require.Equal(t, "old\n", left, "what was there before stays")
			} else {
				require.Empty(t, left)
			}
		})
	}
	t.Run("no sudo", func(t *testing.T) {
		t.Parallel()
		err := connect(t, serverTarget(s, "plain")).Copy(testContext(t), File{Content: strings.NewReader("abc"), Size: 3, Path: "/run/x", Root: true})
		requireFails(t, err, Permanent, "sudo", "/run/x", "a password is required")
	})

	for name, cut := range map[string]func(*sshdtest.Proxy, context.CancelFunc){
		"cut off":   func(p *sshdtest.Proxy, _ context.CancelFunc) { p.Cut() },
		"stalled":   func(p *sshdtest.Proxy, _ context.CancelFunc) { p.Set(true, false) },
		"cancelled": func(_ *sshdtest.Proxy, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name+" leaves no half file", func(t *testing.T) {
			t.Parallel()
			target, p := through(t, s, "free")
			target.KeepAlive = 2 * time.Second
			h := connect(t, target)
			dir := "/run/cut/" + strings.ReplaceAll(name, " ", "-")
			run1(t, h, Command{Root: true, Script: "mkdir -p " + dir + "; echo old > " + dir + "/file"})
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			go func() {
				p.WaitPassed(5 << 20)
				cut(p, cancel)
			}()
			const size = 10 << 30
			err := h.Copy(ctx, File{Content: io.LimitReader(&pattern{}, size), Size: size, Path: dir + "/file", Mode: 0o600, Root: true})
			requireFails(t, err, Passing, "copy", dir+"/file")
			p.Set(false, false)
			// the other end notices by itself and cleans up
			require.Equal(t, "old\n", run1(t, connect(t, serverTarget(s, "root")), Command{Script: "cd " + dir + "; while [ \"$(ls -A)\" != file ]; do sleep 0.02; done; cat file"}))
		})
	}
}
