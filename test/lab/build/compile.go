package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// toolchain is the part of this machine that ends up in a program.
type toolchain struct {
	goVersion string
	// c answers for the C compiler, which only some components need.
	c func() (cToolchain, error)
}

type cToolchain struct {
	version   string
	libraries func(name string) (string, error) // where a static library is
}

// localToolchain asks for the installed go. Where a module wants a newer one its go.mod says which, and that file is in
// the key as well.
func localToolchain(ctx context.Context) (toolchain, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	out, err := cmd.Output()
	if err != nil {
		return toolchain{}, fmt.Errorf("go env GOVERSION: %w", err)
	}
	return toolchain{
		goVersion: strings.TrimSpace(string(out)),
		c:         sync.OnceValues(func() (cToolchain, error) { return localCToolchain(ctx) }),
	}, nil
}

func localCToolchain(ctx context.Context) (cToolchain, error) {
	out, err := exec.CommandContext(ctx, "gcc", "--version").Output()
	if err != nil {
		return cToolchain{}, fmt.Errorf("gcc --version (apt-get install gcc): %w", err)
	}
	return cToolchain{
		version: string(out),
		libraries: func(name string) (string, error) {
			out, err := exec.CommandContext(ctx, "gcc", "-print-file-name="+name).Output()
			if err != nil {
				return "", fmt.Errorf("gcc -print-file-name=%s: %w", name, err)
			}
			path := strings.TrimSpace(string(out))
			if !filepath.IsAbs(path) {
				return "", fmt.Errorf("no static library %s: apt-get install %s", name, strings.TrimSuffix(name, ".a")+"-dev")
			}
			return path, nil
		},
	}, nil
}

// environment is what go build gets on top of the caller's, so that the caller's settings do not change the outcome.
func (c component) environment() []string {
	cgo := "0"
	if c.cgo {
		cgo = "1"
	}
	return []string{
		"CGO_ENABLED=" + cgo, "GOTOOLCHAIN=auto", "GOFLAGS=-mod=readonly", "GOWORK=off",
		"GOOS=linux", "GOARCH=" + runtime.GOARCH, "GOEXPERIMENT=" + c.experiment, "GOAMD64=v1", "GOARM64=v8.0",
		"CC=gcc", "CGO_CFLAGS=", "CGO_CPPFLAGS=", "CGO_LDFLAGS=",
	}
}

// arguments of go, without the place of its output.
func (c component) arguments() []string {
	args := []string{"build", "-trimpath"}
	if c.repository {
		args = append(args, "-buildvcs=false") // the state of the clone is no part of the program
	}
	if len(c.tags) > 0 {
		args = append(args, "-tags", strings.Join(c.tags, ","))
	}
	return append(args, "-ldflags", strings.Join(append([]string{"-s", "-w"}, c.ldflags...), " "))
}

// directory is where go build runs.
func (b *builder) directory(c component) string {
	if c.repository {
		return filepath.Join(b.source, "..", "..")
	}
	return filepath.Join(b.source, c.dir)
}

// key is over all that a component's programs are made from. The modules' own content is pinned by go.sum.
func (b *builder) key(ctx context.Context, c component) (*key, error) {
	k := newKey("component", c.name, c.version, b.tool.goVersion)
	k.add(c.environment()...)
	k.add(c.arguments()...)
	for _, p := range c.programs {
		k.add(p.name, p.pkg)
	}
	for _, name := range slices.Sorted(maps.Keys(c.added)) {
		k.add(name, c.added[name])
	}
	if c.repository {
		if err := b.addSources(ctx, k, c); err != nil {
			return nil, err
		}
	} else if err := k.addTree(b.directory(c), isGoTest); err != nil {
		return nil, err
	}
	if !c.cgo {
		return k, nil
	}
	cc, err := b.tool.c()
	if err != nil {
		return nil, err
	}
	k.add(cc.version)
	for _, l := range c.libraries {
		path, err := cc.libraries(l)
		if err != nil {
			return nil, err
		}
		if err := k.addFile(l, path); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func isGoTest(name string) bool { return strings.HasSuffix(name, "_test.go") }

// built is a component's entry in the cache.
type built struct {
	dir  string
	made bool // by this call

	Wall  time.Duration      `json:"wall"` // nanoseconds, of the call that made it
	CPU   time.Duration      `json:"cpu"`
	Files map[string]outcome `json:"files"` // by program name
}

type outcome struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // bytes
}

const entryName = "entry.json"

func programPath(dir, name string) string { return filepath.Join(dir, "bin", filepath.FromSlash(name)) }

func (e built) program(c component, p program) Program {
	return Program{
		Name: p.name, Version: c.version, Source: c.source(), Path: programPath(e.dir, p.name),
		Digest: e.Files[p.name].Digest, Size: e.Files[p.name].Size,
	}
}

// component builds a component, or finds it in the cache.
func (b *builder) component(ctx context.Context, c component) (built, error) {
	fail := func(err error) (built, error) {
		return built{}, fmt.Errorf("build %s %s: %w", c.name, c.version, err)
	}
	k, err := b.key(ctx, c)
	if err != nil {
		return fail(err)
	}
	dir, made, err := b.store.entry(ctx, "component/"+c.name+"-"+c.version, k, func(dir string) error {
		select {
		case b.compilers <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-b.compilers }()
		return b.compile(ctx, c, dir)
	})
	if err != nil {
		return fail(err)
	}
	e := built{dir: dir, made: made}
	if err := readJSON(filepath.Join(dir, entryName), &e); err != nil {
		return fail(err)
	}
	return e, nil
}

func (b *builder) compile(ctx context.Context, c component, dir string) error {
	b.log("building %s %s", c.name, c.version)
	begin := time.Now()
	at := b.directory(c)
	if len(c.added) > 0 {
		work, err := b.completed(ctx, c, dir)
		if err != nil {
			return err
		}
		at = work
	}
	out := filepath.Join(dir, "out")
	args := append(c.arguments(), "-o", out+string(filepath.Separator))
	for _, p := range c.programs {
		args = append(args, p.pkg)
	}
	cmd := group(exec.CommandContext(ctx, "go", args...))
	cmd.Dir = at
	cmd.Env = append(os.Environ(), c.environment()...)
	if err := run(ctx, cmd); err != nil {
		return err
	}
	e := built{CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), Files: map[string]outcome{}}
	for _, p := range c.programs {
		to := programPath(dir, p.name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(out, p.output()), to); err != nil {
			return err
		}
		digest, size, err := digestFile(to)
		if err != nil {
			return err
		}
		e.Files[p.name] = outcome{digest, size}
	}
	if err := os.Remove(out); err != nil { // and so it must be empty
		return err
	}
	if at != b.directory(c) {
		if err := os.RemoveAll(filepath.Dir(at)); err != nil {
			return err
		}
	}
	e.Wall = time.Since(begin)
	b.log("built %s %s in %.1f s (CPU %.1f s)", c.name, c.version, e.Wall.Seconds(), e.CPU.Seconds())
	return writeJSON(filepath.Join(dir, entryName), e)
}

// group puts a command and its children into a process group of their own, which ends as a whole with the context.
func group(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second // for pipes that a child outside the group holds
	return cmd
}

// run runs a command; its error carries the end of what it said.
func run(ctx context.Context, cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	return failure(ctx, cmd, cmd.Run(), &said)
}

// outputOf runs a command and returns what it printed; an error carries the end of what it complained of.
func outputOf(ctx context.Context, cmd *exec.Cmd) (*bytes.Buffer, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	return &out, failure(ctx, cmd, cmd.Run(), &said)
}

func failure(ctx context.Context, cmd *exec.Cmd, err error, said *bytes.Buffer) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := strings.TrimSpace(said.String())
	if limit := 4000; len(text) > limit {
		text = "... " + text[len(text)-limit:]
	}
	return fmt.Errorf("in %s: %s %s: %w\n%s", cmd.Dir, filepath.Base(cmd.Path), cmd.Args[1], err, text)
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
