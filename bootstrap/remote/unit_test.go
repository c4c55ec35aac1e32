package remote

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
)

// unitHost is a host with the stand-ins for systemd (sshdtest/standin), and root's way to look behind.
func unitHost(t *testing.T, user string) (h *Host, p *sshdtest.Proxy, root *Host) {
	t.Helper()
	s := sshdtest.Start(t)
	target, p := through(t, s, user)
	return connect(t, target), p, connect(t, serverTarget(s, "root"))
}

func TestUnit(t *testing.T) {
	t.Parallel()
	h, _, root := unitHost(t, "free")
	var mu sync.Mutex
	run := func(t *testing.T, u Unit) (UnitResult, []string, error) {
		t.Helper()
		var lines []string
		res, err := RunUnit(testContext(t), h, u, func(l string) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, l)
		})
		return res, lines, err
	}
	t.Run("output, status and inputs", func(t *testing.T) {
		res, lines, err := run(t, Unit{
			Name: "inputs", Files: map[string][]byte{"secret": []byte("s3cret\n"), "x.yaml": nil},
			Script: `cd "$UNIT_DIR"; ls; stat -c %a secret; wc -c < secret; echo to stderr >&2; pwd; id -un; read -r x || echo "no input"; printf 'ü no newline'; exit 3`,
		})
		require.NoError(t, err)
		require.Equal(t, 3, res.ExitCode)
		want := []string{"secret", "x.yaml", "600", "7", "to stderr", "/run/catamaran/units/inputs/in", "root", "no input", "ü no newline"}
		require.Equal(t, want, lines)
		require.Equal(t, strings.Join(want, "\n")+"\n", res.Output)
		require.False(t, res.Attached)
		require.Equal(t, "begun ended nonce output rc run script\n700 600\n", run1(t, root, Command{Script: "cd /run/catamaran/units/inputs; echo $(ls); echo $(stat -c %a . script)"}), "the inputs are gone")
		require.Equal(t, ".lock.catamaran-inputs\n", run1(t, root, Command{Script: "cd /run/catamaran/units; ls -A | grep '^\\.'"}), "nothing else is left")
	})
	t.Run("again under the same name", func(t *testing.T) {
		for i := range 3 {
			res, _, err := run(t, Unit{Name: "again", Script: fmt.Sprintf("echo %d; exit %d", i, i)})
			require.NoError(t, err)
			require.Equal(t, i, res.ExitCode)
			require.Equal(t, fmt.Sprintln(i), res.Output)
		}
	})
	t.Run("again while the former one is still being ended", func(t *testing.T) {
		run1(t, root, Command{Script: "mkdir -p /run/standin; : > /run/standin/slow-stop"})
		_, _, err := run(t, Unit{Name: "slow", Script: "echo 1"})
		require.NoError(t, err)
		require.Equal(t, "deactivating\n", run1(t, root, Command{Script: "cat /run/standin/catamaran-slow.service/state"}))
		type end struct {
			res UnitResult
			err error
		}
		ended := make(chan end, 1)
		go func() {
			res, err := RunUnit(testContext(t), h, Unit{Name: "slow", Script: "echo 2"}, nil)
			ended <- end{res, err}
		}()
		// it holds the lock while it waits; then let systemd go on
		run1(t, root, Command{Script: "while flock -n /run/catamaran/units/.lock.catamaran-slow true; do sleep 0.02; done; rm /run/standin/slow-stop"})
		e := <-ended
		require.NoError(t, e.err)
		require.Equal(t, "2\n", e.res.Output)
	})
	t.Run("timeout", func(t *testing.T) {
		res, lines, err := run(t, Unit{Name: "late", Script: "echo begin; sleep 600", Timeout: time.Millisecond, Files: map[string][]byte{"key": []byte("k")}})
		require.NoError(t, err)
		require.Equal(t, 124, res.ExitCode)
		require.Equal(t, []string{"begin", "the script was ended from outside: it took too long"}, lines)
		require.Equal(t, "gone\n", run1(t, root, Command{Script: "[ -e /run/catamaran/units/late/in ] || echo gone"}))
	})
	t.Run("the unit's shell is killed", func(t *testing.T) {
		begun := make(chan struct{})
		var once sync.Once
		go func() {
			<-begun
			_, _ = root.Run(testContext(t), Command{Script: "kill -9 $(cat /run/standin/catamaran-shot.service/pid)"})
		}()
		res, err := RunUnit(testContext(t), h, Unit{Name: "shot", Script: "echo begin; sleep 600", Files: map[string][]byte{"key": []byte("k")}}, func(string) { once.Do(func() { close(begun) }) })
		require.NoError(t, err)
		require.Equal(t, 137, res.ExitCode)
		require.Contains(t, res.Output, "it was killed")
		require.Equal(t, "gone\n", run1(t, root, Command{Script: "[ -e /run/catamaran/units/shot/in ] || echo gone"}), "the inputs go even then")
	})
	t.Run("no status at all", func(t *testing.T) {
		begun := make(chan struct{})
		var once sync.Once
		go func() {
			<-begun
			// what can happen when /run is full: the unit ends and ExecStopPost can not write
			_, _ = root.Run(testContext(t), Command{Script: "cd /run/standin/catamaran-mute.service; echo 'exit 0' > /run/catamaran/units/mute/ended; kill -9 $(cat pid)"})
		}()
		res, err := RunUnit(testContext(t), h, Unit{Name: "mute", Script: "echo begin; sleep 600"}, func(string) { once.Do(func() { close(begun) }) })
		require.NoError(t, err)
		require.Equal(t, 137, res.ExitCode)
		require.Contains(t, res.Output, "it left no status")
	})
	t.Run("systemd refuses", func(t *testing.T) {
		run1(t, root, Command{Script: "mkdir -p /run/standin; : > /run/standin/broken"})
		_, _, err := run(t, Unit{Name: "refused", Script: "echo 1"})
		var exit *ExitError
		require.ErrorAs(t, err, &exit)
		require.Contains(t, err.Error(), "Failed to connect to bus")
		run1(t, root, Command{Script: "rm /run/standin/broken"})
		res, _, err := run(t, Unit{Name: "refused", Script: "echo 1"})
		require.NoError(t, err)
		require.Equal(t, "1\n", res.Output)
	})
	t.Run("much output", func(t *testing.T) {
		lines := 0
		res, err := RunUnit(testContext(t), h, Unit{Name: "much", Script: "seq 1 400000"}, func(string) { lines++ })
		require.NoError(t, err)
		require.Equal(t, 400000, lines)
		require.Less(t, len(res.Output), maxUnitOutput+1)
		require.True(t, strings.HasSuffix(res.Output, "\n399999\n400000\n"))
		first, _, _ := strings.Cut(res.Output, "\n")
		require.Len(t, first, 6, "it begins with a whole line")
	})
	t.Run("bad names", func(t *testing.T) {
		for _, name := range []string{"", "a b", "../x", "A", "-x"} {
			_, _, err := run(t, Unit{Name: name, Script: "true"})
			require.ErrorContains(t, err, "can not name a unit")
		}
		_, _, err := run(t, Unit{Name: "x", Script: "true", Files: map[string][]byte{"../etc/passwd": nil}})
		require.ErrorContains(t, err, "must be a plain one")
	})
	t.Run("no sudo", func(t *testing.T) {
		s := sshdtest.Start(t)
		_, err := RunUnit(testContext(t), connect(t, serverTarget(s, "plain")), Unit{Name: "x", Script: "true"}, nil)
		requireFails(t, err, Permanent, "sudo")
	})
}

// TestUnitOutlivesTheLink cuts the link again and again while a unit prints, and wants every line once.
func TestUnitOutlivesTheLink(t *testing.T) {
	t.Parallel()
	h, p, root := unitHost(t, "root")
	const count = 300
	var lines []string
	lost := 0
	res, err := RunUnit(testContext(t), h, Unit{Name: "cut", Script: fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); printf 'lï'; printf 'ne %%d\\n' $i; sleep 0.01; done; exit 5", count)}, func(l string) {
		if strings.HasPrefix(l, "link lost, connecting again: m1 (127.0.0.1): run: the link was lost") {
			lost++
			return
		}
		lines = append(lines, l)
		if len(lines)%60 == 0 {
			p.Cut()
		}
	})
	require.NoError(t, err)
	require.Equal(t, 5, res.ExitCode)
	require.Len(t, lines, count)
	for i, l := range lines {
		require.Equal(t, fmt.Sprintf("lïne %d", i+1), l)
	}
	require.Equal(t, strings.Join(lines, "\n")+"\n", res.Output)
	require.Positive(t, lost)
	require.Equal(t, "catamaran-cut.service\n", run1(t, root, Command{Script: "cat /run/standin/started"}), "it was started once")
	require.False(t, res.Attached)
}

// cutOnce is a runner whose first calls end as if the link had been lost at a chosen moment.
type cutOnce struct {
	*Host
	calls int
	do    func(call int, c Command) (Command, func(Result, error) (Result, error))
}

func (r *cutOnce) Run(ctx context.Context, c Command) (Result, error) {
	r.calls++
	c, after := r.do(r.calls, c)
	res, err := r.Host.Run(ctx, c)
	if after != nil {
		return after(res, err)
	}
	return res, err
}

func TestUnitLinkLostAtEveryMoment(t *testing.T) {
	t.Parallel()
	h, _, root := unitHost(t, "root")
	lost := func(Result, error) (Result, error) { return Result{}, h.fail("run", Passing, "", errors.New("lost")) }
	started := func(name string) string {
		return run1(t, root, Command{Script: "grep -c '^catamaran-" + name + ".service$' /run/standin/started || true"})
	}
	t.Run("while the input travels", func(t *testing.T) {
		r := &cutOnce{Host: h, do: func(call int, c Command) (Command, func(Result, error) (Result, error)) {
			if call == 1 {
				c.Stdin = &half{c.Stdin, 700}
				return c, lost
			}
			return c, nil
		}}
		res, err := RunUnit(testContext(t), r, Unit{Name: "early", Script: "echo ran", Files: map[string][]byte{"a": make([]byte, 9000)}}, nil)
		require.NoError(t, err)
		require.Equal(t, "ran\n", res.Output)
		require.Equal(t, "1\n", started("early"))
	})
	t.Run("after it ran, before anything was heard", func(t *testing.T) {
		r := &cutOnce{Host: h, do: func(call int, c Command) (Command, func(Result, error) (Result, error)) {
			if call == 1 {
				c.Stdout = &sshdtest.Buffer{}
				return c, lost
			}
			return c, nil
		}}
		res, err := RunUnit(testContext(t), r, Unit{Name: "unheard", Script: "echo ran; exit 4"}, nil)
		require.NoError(t, err)
		require.Equal(t, "ran\n", res.Output)
		require.Equal(t, 4, res.ExitCode)
		require.False(t, res.Attached)
		require.Equal(t, "1\n", started("unheard"), "an ended unit of this very call is not started again")
	})
	t.Run("the machine was rebooted", func(t *testing.T) {
		r := &cutOnce{Host: h, do: func(call int, c Command) (Command, func(Result, error) (Result, error)) {
			if call == 1 {
				return c, func(res Result, _ error) (Result, error) {
					run1(t, root, Command{Script: "rm -rf /run/catamaran/units"})
					return res, h.fail("run", Passing, "", errors.New("lost"))
				}
			}
			return c, nil
		}}
		_, err := RunUnit(testContext(t), r, Unit{Name: "reboot", Script: "echo ran"}, nil)
		require.ErrorIs(t, err, ErrRebooted)
		requireFails(t, err, Permanent, "run", "rebooted")
		_, err = WaitUnit(testContext(t), h, "catamaran-reboot", nil)
		require.NoError(t, err, "for one who only waits that is fine")
	})
	t.Run("two callers: the second attaches, and stays with the unit after a cut", func(t *testing.T) {
		first := make(chan error, 1)
		begun := make(chan struct{})
		var once sync.Once
		go func() {
			_, err := RunUnit(testContext(t), h, Unit{Name: "shared", Script: "echo one; until [ -e /run/go ]; do sleep 0.02; done; echo two; exit 6"}, func(string) { once.Do(func() { close(begun) }) })
			first <- err
		}()
		select {
		case <-begun:
		case err := <-first:
			require.Fail(t, "it ended before it began", "%v", err)
		}
		p := sshdtest.StartProxy(t, root.t.Port)
		target := root.t
		target.Port = p.Port
		other := connect(t, target)
		cut := false
		res, err := RunUnit(testContext(t), other, Unit{Name: "shared", Script: "echo never"}, func(l string) {
			switch {
			case l == "one":
				p.Cut()
			case strings.HasPrefix(l, "link lost"):
				cut = true
				run1(t, root, Command{Script: ": > /run/go"})
			}
		})
		require.NoError(t, err)
		require.True(t, cut)
		require.True(t, res.Attached)
		require.Equal(t, 6, res.ExitCode)
		require.Equal(t, "one\ntwo\n", res.Output)
		require.NoError(t, <-first)
		require.Equal(t, "1\n", started("shared"))
	})
	t.Run("waiting for another run's unit", func(t *testing.T) {
		run1(t, root, Command{Script: "rm -f /run/go2"})
		begun := make(chan struct{})
		var once sync.Once
		ctx, kill := context.WithCancel(testContext(t))
		first := make(chan error, 1)
		go func() {
			_, err := RunUnit(ctx, h, Unit{Name: "left", Script: "echo one; until [ -e /run/go2 ]; do sleep 0.02; done; echo two"}, func(string) { once.Do(func() { close(begun) }) })
			first <- err
		}()
		select {
		case <-begun:
		case err := <-first:
			require.Fail(t, "it ended before it began", "%v", err)
		}
		kill() // as if that run had been killed
		require.ErrorIs(t, <-first, context.Canceled)
		res, err := WaitUnit(testContext(t), root, "catamaran-left", func(l string) {
			if l == "one" {
				_, _ = h.Run(testContext(t), Command{Script: ": > /run/go2"})
			}
		})
		require.NoError(t, err)
		require.True(t, res.Attached)
		require.Equal(t, "one\ntwo\n", res.Output)
	})
	t.Run("a follower gives up when told to", func(t *testing.T) {
		ctx, cancel := context.WithCancel(testContext(t))
		r := &cutOnce{Host: h, do: func(_ int, c Command) (Command, func(Result, error) (Result, error)) {
			c.Script, c.Stdin = "true", nil
			return c, func(Result, error) (Result, error) {
				cancel()
				return Result{}, h.fail("run", Passing, "", errors.New("lost"))
			}
		}}
		_, err := RunUnit(ctx, r, Unit{Name: "given-up", Script: "true"}, nil)
		requireFails(t, err, Passing, "run", "lost")
	})
}

// half ends after n bytes, as the input of a script does whose link is lost.
type half struct {
	r interface{ Read([]byte) (int, error) }
	n int
}

func (h *half) Read(p []byte) (int, error) {
	if h.n == 0 {
		return 0, errors.New("lost")
	}
	n, err := h.r.Read(p[:min(len(p), h.n)])
	h.n -= n
	return n, err
}

// TestUnitScripts has the shells that machines have, and shellcheck, read the scripts.
func TestUnitScripts(t *testing.T) {
	t.Parallel()
	const given = "name=x dir=/run/x offset=1 nonce=n timeout=1\nexport name dir offset nonce timeout\n"
	for name, script := range map[string]string{
		"start": given + startUnit + followUnit, "attach": given + attachUnit + followUnit, "run": runUnit, "ended": endedUnit,
		"copy": copyScript(File{Path: "/a/b", Root: true}, "n"),
	} {
		for _, check := range [][]string{{"sh", "-n"}, {"dash", "-n"}, {"bash", "--posix", "-n"}, {"shellcheck", "-s", "sh", "-"}} {
			c := exec.Command(check[0], check[1:]...)
			c.Stdin = strings.NewReader(script)
			out, err := c.CombinedOutput()
			require.NoError(t, err, "%s: %v (package %s): %s", name, check, check[0], out)
		}
	}
}
