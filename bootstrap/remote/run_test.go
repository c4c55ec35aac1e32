package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
)

func TestRun(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, "Banner /run/private/sshd_config")
	root := connect(t, serverTarget(s, "root"))

	t.Run("output, PATH and locale", func(t *testing.T) {
		res, err := root.Run(testContext(t), Command{Script: `echo "$PATH $LC_ALL"; echo two >&2; printf 'no newline'`})
		require.NoError(t, err)
		require.Equal(t, scriptPath+" C\nno newline", string(res.Stdout))
		require.Equal(t, "two\n", string(res.Stderr))
	})
	t.Run("quotes", func(t *testing.T) {
		require.Equal(t, "it's \"so\" $HOME\n", run1(t, root, Command{Script: `echo 'it'\''s "so" $HOME'`}))
	})
	t.Run("status", func(t *testing.T) {
		res, err := root.Run(testContext(t), Command{Script: "echo out; seq 1 9 >&2; exit 7"})
		var exit *ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 7, res.ExitCode)
		require.Equal(t, "out\n", string(res.Stdout))
		require.Equal(t, "m1 (127.0.0.1): the script ended with status 7: 5\n6\n7\n8\n9", err.Error())
		require.False(t, IsPassing(err) || IsPermanent(err))
	})
	t.Run("a script that does not read its input", func(t *testing.T) {
		run1(t, root, Command{Script: "exit 0", Stdin: io.LimitReader(&pattern{}, 8<<20)})
	})
	t.Run("input that never ends", func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close() //nolint:errcheck // in memory
		require.Equal(t, "done\n", run1(t, root, Command{Script: "echo done", Stdin: r}))
	})
	t.Run("input that fails", func(t *testing.T) {
		broken := io.MultiReader(strings.NewReader("some"), &failing{errors.New("the disk is gone")})
		_, err := root.Run(testContext(t), Command{Script: "cat > /dev/null; sleep 60", Stdin: broken})
		requireFails(t, err, Permanent, "run", "the disk is gone")
	})
	t.Run("output as it comes", func(t *testing.T) {
		r, w := io.Pipe()
		got := &sshdtest.Buffer{}
		first := make(chan struct{})
		_, err := root.Run(testContext(t), Command{
			Script: "echo one; read -r go; echo $go",
			Stdin:  r,
			Stdout: writerFunc(func(p []byte) (int, error) {
				if got.String() == "" {
					close(first)
					go func() { _, _ = io.WriteString(w, "two\n"); _ = w.Close() }() // in memory
				}
				return got.Write(p)
			}),
		})
		require.NoError(t, err)
		<-first
		require.Equal(t, "one\ntwo\n", got.String())
	})
	t.Run("output that nobody can take", func(t *testing.T) {
		_, err := root.Run(testContext(t), Command{Script: "seq 1 2000000", Stdout: writerFunc(func([]byte) (int, error) { return 0, errors.New("the file is full") })})
		requireFails(t, err, Permanent, "run", "the file is full")
	})
	t.Run("too much output", func(t *testing.T) {
		_, err := root.Run(testContext(t), Command{Script: fmt.Sprintf("head -c %d /dev/zero", maxOutput+1)})
		requireFails(t, err, Permanent, "run", "more than 64 MiB")
	})
	t.Run("too long a script", func(t *testing.T) {
		_, err := root.Run(testContext(t), Command{Script: ": " + strings.Repeat("x", maxCommand)})
		requireFails(t, err, Permanent, "run", "the script has 131")
		long := maxCommand - 300
		require.Equal(t, fmt.Sprintln(long), run1(t, root, Command{Script: "printf %s " + strings.Repeat("x", long) + " | wc -c"}))
	})
	t.Run("killed", func(t *testing.T) {
		_, err := root.Run(testContext(t), Command{Script: "kill -9 $$"})
		requireFails(t, err, Passing, "run", "signal KILL")
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(testContext(t))
		out := &sshdtest.Buffer{}
		plain := connect(t, serverTarget(s, "plain")) // sshd signals no script of root's
		_, err := plain.Run(ctx, Command{Script: "echo $$; exec sleep 600", Stdout: writerFunc(func(p []byte) (int, error) {
			defer cancel()
			return out.Write(p)
		})})
		requireFails(t, err, Passing, "run", "context canceled")
		// SIGTERM reaches it: the script is gone soon
		run1(t, root, Command{Script: "while kill -0 " + strings.TrimSpace(out.String()) + " 2>/dev/null; do sleep 0.02; done"})
	})
}

func TestLoginShells(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, "Match User deaf", "ForceCommand echo only this", "Match all")
	_, err := connect(t, serverTarget(s, "shut")).Run(testContext(t), Command{Script: "echo hello"})
	requireFails(t, err, Permanent, "run", "This account is currently not available", "login shell")
	_, err = connect(t, serverTarget(s, "deaf")).Run(testContext(t), Command{Script: "echo hello"})
	requireFails(t, err, Permanent, "run", "only this")

	noisy := connect(t, serverTarget(s, "noisy"))
	for _, asRoot := range []bool{false, true} {
		res, err := noisy.Run(testContext(t), Command{Script: "echo out; echo err >&2", Root: asRoot})
		require.NoError(t, err)
		require.Equal(t, "out\n", string(res.Stdout))
		require.Equal(t, "err\n", string(res.Stderr))
	}
	require.NoError(t, noisy.Copy(testContext(t), File{Content: strings.NewReader("through noise"), Size: 13, Path: "/home/noisy/file", Mode: 0o640}))
	require.Equal(t, "through noise640", run1(t, noisy, Command{Script: "cat file; stat -c %a file | tr -d '\\n'"}))
}

func TestSudo(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	content, err := io.ReadAll(io.LimitReader(&pattern{}, 3<<20))
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])

	for name, c := range map[string]struct {
		user     string
		password func() ([]byte, error)
		words    []string // empty: it must work
	}{
		"root":                           {user: "root"},
		"root, password given":           {user: "root", password: sudoPassword(canarySudo)},
		"no password needed":             {user: "free"},
		"no password needed but given":   {user: "free", password: sudoPassword(canarySudo)},
		"no password needed, wrong one":  {user: "free", password: sudoPassword(canaryWrong)},
		"password needed":                {user: "asks", password: sudoPassword(canarySudo)},
		"password needed, none given":    {user: "asks", words: []string{"a password is required", "give ssh.sudoPassword"}},
		"password needed, a wrong one":   {user: "asks", password: sudoPassword(canaryWrong), words: []string{"incorrect password", "is ssh.sudoPassword that of asks"}},
		"no sudo at all":                 {user: "plain", password: sudoPassword(canarySudo), words: []string{"plain is not in the sudoers file"}},
		"no sudo at all, no password":    {user: "plain", words: []string{"a password is required"}},
		"a password of two lines":        {user: "asks", password: sudoPassword(canarySudo + "\nx"), words: []string{"more than one line"}},
		"a password that can not be had": {user: "asks", password: func() ([]byte, error) { return nil, os.ErrNotExist }, words: []string{"file does not exist"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := serverTarget(s, c.user)
			target.SudoPassword = c.password
			h := connect(t, target)
			require.Equal(t, c.user+"\n", run1(t, h, Command{Script: "id -un"}), "without root nothing changes")
			// the input must arrive whole, whatever sudo read of it
			res, err := h.Run(testContext(t), Command{Script: "id -un; sha256sum; env >&2", Stdin: bytes.NewReader(content), Root: true})
			if c.words != nil {
				requireFails(t, err, Permanent, "sudo", c.words...)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "root\n"+digest+"  -\n", string(res.Stdout))
			requireNoCanary(t, string(res.Stderr))
			require.Empty(t, run1(t, h, Command{Script: "cat", Root: true}), "no input is no input")
			var exit *ExitError
			_, err = h.Run(testContext(t), Command{Script: "echo sudo: sorry >&2; exit 1", Root: true})
			require.ErrorAs(t, err, &exit, "a script that fails is not a sudo that fails")
		})
	}
}

// TestSecretsStayOutOfProcessLists looks at every command line of the machine while a script holds still.
func TestSecretsStayOutOfProcessLists(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	target := serverTarget(s, "asks")
	target.SudoPassword = sudoPassword(canarySudo)
	h := connect(t, target)
	hold, release := io.Pipe()
	running := make(chan struct{})
	var once sync.Once
	ended := make(chan error, 1)
	go func() {
		_, err := h.Run(testContext(t), Command{
			Script: "echo holding-still-for-the-test; cat", Root: true, Stdin: hold,
			Stdout: writerFunc(func(p []byte) (int, error) { once.Do(func() { close(running) }); return len(p), nil }),
		})
		ended <- err
	}()
	<-running
	seen := false
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, kind := range []string{"cmdline", "environ"} {
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(f), kind))
			if err != nil {
				continue // it ended meanwhile
			}
			seen = seen || kind == "cmdline" && bytes.Contains(text, []byte("holding-still-for-the-test"))
			if kind == "cmdline" || bytes.Contains(text, []byte("SUDO_COMMAND")) {
				requireNoCanary(t, string(text))
			}
		}
	}
	require.True(t, seen, "the script's own process must have been among them")
	require.NoError(t, release.Close())
	require.NoError(t, <-ended)
}

func TestSessionsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config []string
		limit  int
	}{
		"sshd's default of ten": {limit: 10},
		"a lower limit":         {config: []string{"MaxSessions 2"}, limit: 2},
		"one":                   {config: []string{"MaxSessions 1"}, limit: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sshdtest.Start(t, c.config...)
			p := sshdtest.StartProxy(t, s.Port)
			target := serverTarget(s, "root")
			target.Port = p.Port
			h := connect(t, target)
			const runs = 40
			errs := make(chan error, runs)
			for i := range runs {
				go func() {
					res, err := h.Run(testContext(t), Command{Script: fmt.Sprintf("sleep 0.05; echo %d", i)})
					if err == nil && string(res.Stdout) != fmt.Sprintln(i) {
						err = fmt.Errorf("run %d: %q", i, res.Stdout)
					}
					errs <- err
				}()
			}
			for range runs {
				require.NoError(t, <-errs)
			}
			require.Equal(t, 1, p.Dialled(), "one connection for everything")
			require.Equal(t, int32(c.limit), h.link.limit.Load())
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := sshdtest.Start(t, "MaxSessions 0")
		_, err := connect(t, serverTarget(s, "root")).Run(testContext(t), Command{Script: "true"})
		requireFails(t, err, Permanent, "run", "MaxSessions")
	})
	t.Run("a turn that does not come", func(t *testing.T) {
		t.Parallel()
		s := sshdtest.Start(t, "MaxSessions 1")
		h := connect(t, serverTarget(s, "root"))
		require.NoError(t, h.Connect(testContext(t)))
		_, done, err := h.link.open(testContext(t))
		require.NoError(t, err)
		defer done()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_, err = h.Run(ctx, Command{Script: "true"})
		requireFails(t, err, Passing, "run", "deadline exceeded")
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
