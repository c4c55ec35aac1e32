package remote

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // the unit's scripts
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Unit is a script that must not die with the SSH link: it runs as the transient systemd service
// catamaran-<Name>.service, with its state in a private folder under /run.
type Unit struct {
	// Name is stable between runs of the program; letters, digits and dashes.
	Name   string
	Script string
	// Files are inputs, secret ones too: the script finds them in $UNIT_DIR, mode 0600 on tmpfs. They are removed when
	// the script ends, however it ends.
	Files map[string][]byte
	// Timeout ends the script; 0: 30 minutes. It is rounded up to seconds.
	Timeout time.Duration
}

// UnitResult is how a unit ended.
type UnitResult struct {
	// ExitCode is the script's own, or 124 when it took longer than its timeout, or 137 when it was killed.
	ExitCode int
	// Output is what the script printed, at most the last MiB; what killed it is its last line.
	Output string
	// Attached says that the unit was already running when this call came.
	Attached bool
}

// ErrRebooted says that the machine forgot the unit: it was rebooted while the script ran.
var ErrRebooted = errors.New("the machine was rebooted while the step ran")

const (
	unitsDir = "/run/catamaran/units/"
	// UnitPrefix begins the name of every transient service of ours.
	UnitPrefix = "catamaran-"
	// maxUnitOutput bounds what is kept of a unit's output, in bytes.
	maxUnitOutput = 1 << 20
)

// The scripts keep the state of a unit in $dir: nonce (of the call that started it), script, run and ended (the unit's
// two halves), in/ (inputs), begun, output, rc. rc appears last. What the follower must know comes on stderr as unit-...
// lines; stdout is the unit's output and nothing else.
var (
	//go:embed unit-start.sh
	startUnit string
	//go:embed unit-attach.sh
	attachUnit string
	//go:embed unit-follow.sh
	followUnit string
	//go:embed unit-run.sh
	runUnit string
	//go:embed unit-ended.sh
	endedUnit string
)

var unitName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// RunUnit starts the unit, or attaches to one of that name that still runs, and follows it to its end. When the link is
// lost it connects again, with growing pauses, until ctx ends, and goes on reading where it was. line receives the output.
func RunUnit(ctx context.Context, r Runner, u Unit, line func(string)) (UnitResult, error) {
	if u.Timeout == 0 {
		u.Timeout = 30 * time.Minute
	}
	var nonce [12]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return UnitResult{}, err
	}
	f := &follower{r: r, name: u.Name, nonce: hex.EncodeToString(nonce[:]), line: line, start: &u}
	return f.follow(ctx)
}

// WaitUnit follows a unit that an earlier run of the program left running. A unit that is gone already is no error.
func WaitUnit(ctx context.Context, r Runner, name string, line func(string)) (UnitResult, error) {
	f := &follower{r: r, name: strings.TrimSuffix(strings.TrimPrefix(name, UnitPrefix), ".service"), line: line}
	res, err := f.follow(ctx)
	if errors.Is(err, ErrRebooted) {
		return res, nil
	}
	return res, err
}

// follower reads one unit's output across several connections.
type follower struct {
	r    Runner
	name string
	// nonce names the very unit that is followed: that of the call that started it, learnt from the machine.
	nonce string
	line  func(string)
	start *Unit // nil: only attach

	found    bool // the machine said which unit is followed
	attached bool
	offset   int64  // bytes received so far
	kept     []byte // the last of them
	partial  []byte // the line that has not ended
}

func (f *follower) follow(ctx context.Context) (UnitResult, error) {
	if !unitName.MatchString(f.name) {
		return UnitResult{}, fmt.Errorf("%q can not name a unit", f.name)
	}
	const shortest, longest = 200 * time.Millisecond, 10 * time.Second
	pause := shortest
	for {
		before := f.offset
		res, err := f.attempt(ctx)
		if err == nil || !IsPassing(err) || ctx.Err() != nil {
			return res, err
		}
		if f.offset > before {
			pause = shortest
		}
		if f.line != nil {
			f.line("link lost, connecting again: " + err.Error())
		}
		select {
		case <-ctx.Done():
			return res, fmt.Errorf("%w (while connecting again after: %w)", ctx.Err(), err)
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

// attempt is one connection's worth of following.
func (f *follower) attempt(ctx context.Context) (UnitResult, error) {
	script, stdin, err := f.script()
	if err != nil {
		return UnitResult{}, err
	}
	res, err := f.r.Run(ctx, Command{Script: script, Stdin: stdin, Root: true, Stdout: f})
	f.learn(res.Stderr)
	var exit *ExitError
	if err != nil && !errors.As(err, &exit) {
		return f.soFar(), err
	}
	return f.result(res)
}

// learn reads which unit is followed; it is known from then on, even when the link is lost right after.
func (f *follower) learn(stderr []byte) {
	for _, l := range strings.Split(string(stderr), "\n") {
		if l == "unit-attached" {
			f.attached = true
		}
		if nonce, ok := strings.CutPrefix(l, "unit-nonce "); ok {
			f.nonce, f.found = nonce, true
		}
	}
}

func (f *follower) soFar() UnitResult {
	return UnitResult{Output: string(f.kept), Attached: f.attached}
}

// result reads how the unit ended.
func (f *follower) result(res Result) (UnitResult, error) {
	for _, l := range strings.Split(string(res.Stderr), "\n") {
		if l == "unit-gone" {
			return f.soFar(), &Error{Host: f.r.Name(), Op: "run", Kind: Permanent, Hint: "apply again", Err: ErrRebooted}
		}
		status, ok := strings.CutPrefix(l, "unit-ended ")
		if !ok {
			continue
		}
		number, why, _ := strings.Cut(status, " ")
		code, err := strconv.Atoi(number)
		if err != nil {
			return f.soFar(), fmt.Errorf("%s: unit %s: strange end %q", f.r.Name(), f.name, l)
		}
		if len(f.partial) > 0 {
			f.receive([]byte("\n"))
		}
		if why != "" {
			f.receive([]byte("the script was ended from outside: " + why + "\n"))
		}
		out := f.soFar()
		out.ExitCode = code
		return out, nil
	}
	return f.soFar(), &ExitError{Host: f.r.Name(), Result: res}
}

// Write receives output while it is produced.
func (f *follower) Write(p []byte) (int, error) {
	f.offset += int64(len(p))
	f.receive(p)
	return len(p), nil
}

func (f *follower) receive(p []byte) {
	f.kept = append(f.kept, p...)
	if over := len(f.kept) - maxUnitOutput; over > 0 {
		// from the next line on, which also keeps characters whole
		if i := bytes.IndexByte(f.kept[over:], '\n'); i >= 0 {
			over += i + 1
		}
		f.kept = append([]byte(nil), f.kept[over:]...)
	}
	f.partial = append(f.partial, p...)
	for {
		l, rest, ended := bytes.Cut(f.partial, []byte("\n"))
		if !ended {
			return
		}
		if f.line != nil {
			f.line(string(l))
		}
		f.partial = rest
	}
}

// script starts the unit (unless it is known already) and follows it.
func (f *follower) script() (string, io.Reader, error) {
	vars := fmt.Sprintf("name=%s%s dir=%s%[2]s offset=%[4]d nonce=%[5]s\n", UnitPrefix, f.name, unitsDir, f.offset+1, f.nonce)
	if f.start == nil || f.found {
		return vars + attachUnit + followUnit, nil, nil
	}
	files, err := f.start.archive(f.nonce)
	if err != nil {
		return "", nil, err
	}
	timeout := (f.start.Timeout + time.Second - 1) / time.Second
	return vars + fmt.Sprintf("timeout=%d\n", timeout) + startUnit + followUnit, bytes.NewReader(files), nil
}

// archive packs the script and its files for the unit's folder.
func (u *Unit) archive(nonce string) ([]byte, error) {
	files := map[string]string{"nonce": nonce, "script": u.Script, "run": runUnit, "ended": endedUnit}
	for name, content := range u.Files {
		if strings.Contains(name, "/") || name == "" || name == "." || name == ".." {
			return nil, fmt.Errorf("unit file %q: the name must be a plain one", name)
		}
		files["in/"+name] = string(content)
	}
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, n := range names {
		if err := tw.WriteHeader(&tar.Header{Name: n, Mode: 0o600, Size: int64(len(files[n])), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(tw, files[n]); err != nil {
			return nil, err
		}
	}
	err := tw.Close() // before Bytes: it writes the end of the archive
	return b.Bytes(), err
}
