// Failures prints what failed in a test run: every failed test's name with the end of what it said, and the end of what
// the linter and the builds said where those failed. Whoever reads the last lines of a log then sees the cause.
//
//	go run ./test/failures .cache/reports
//
// The folder holds JSON lines of `go test -json`, *.json, and texts of other parts that failed, *.failed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tail is how many lines of one failure are shown, and most how many failures.
const (
	tail = 40
	most = 20
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: failures FOLDER")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "failures:", err)
		os.Exit(1)
	}
}

// failure is one test, package or part that failed.
type failure struct {
	name  string
	lines []string
}

func run(w io.Writer, dir string) error {
	var all []failure
	texts, err := filepath.Glob(filepath.Join(dir, "*.failed"))
	if err != nil {
		return err
	}
	for _, path := range texts {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all = append(all, failure{strings.TrimSuffix(filepath.Base(path), ".failed"), strings.Split(strings.TrimRight(string(data), "\n"), "\n")})
	}
	reports, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	for _, path := range reports {
		found, err := read(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, found...)
	}
	return show(w, all)
}

func show(w io.Writer, all []failure) error {
	var b strings.Builder
	for i, f := range all {
		if i == most {
			fmt.Fprintf(&b, "== and %d more failed\n", len(all)-most)
			break
		}
		fmt.Fprintf(&b, "== failed: %s\n", f.name)
		lines := f.lines
		if len(lines) > tail {
			fmt.Fprintf(&b, "   ... %d lines before\n", len(lines)-tail)
			lines = lines[len(lines)-tail:]
		}
		for _, l := range lines {
			b.WriteString("   " + l + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output, ImportPath, FailedBuild string
}

// subject is what an event is of.
type subject struct{ pkg, test string }

// read finds what failed in one report. A test of which some part failed says nothing that the part does not; a test that
// began and never ended was cut off with its package.
func read(path string) ([]failure, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	said := map[subject][]string{}
	failed := map[subject]bool{}
	began := map[subject]bool{}
	builds := map[string]string{} // package that did not build, and what is broken there
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20) // it grows as lines need
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the last line of a run that was killed
		}
		s := subject{cmp.Or(e.Package, e.ImportPath), e.Test}
		switch e.Action {
		case "output", "build-output":
			said[s] = append(said[s], strings.TrimRight(e.Output, "\n"))
		case "run":
			began[s] = true
		case "pass", "skip":
			delete(began, s)
			delete(said, s)
		case "fail", "build-fail":
			delete(began, s)
			failed[s] = true
			if e.FailedBuild != "" {
				builds[s.pkg] = e.FailedBuild
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for s := range began {
		said[s] = append(said[s], "(it never ended)")
		failed[s] = true
	}
	return leaves(failed, said, builds), nil
}

// leaves are the failures that no other explains.
func leaves(failed map[subject]bool, said map[subject][]string, builds map[string]string) []failure {
	explained := map[subject]bool{}
	for s := range failed {
		if s.test == "" {
			continue
		}
		explained[subject{s.pkg, ""}] = true
		for i, c := range s.test {
			if c == '/' {
				explained[subject{s.pkg, s.test[:i]}] = true
			}
		}
	}
	var out []failure
	for s := range failed {
		_, unbuilt := builds[s.pkg]
		if explained[s] && !telling(said[s]) || unbuilt {
			continue
		}
		out = append(out, failure{strings.TrimSpace(s.pkg + " " + s.test), said[s]})
	}
	slices.SortFunc(out, func(a, b failure) int { return strings.Compare(a.name, b.name) })
	return out
}

// telling says that something else than the failure of a part is told: an assertion of its own, a panic, a data race.
func telling(lines []string) bool {
	for _, l := range lines {
		for _, sign := range []string{"Error Trace:", "panic:", "DATA RACE", "fatal error:", "test timed out"} {
			if strings.Contains(l, sign) {
				return true
			}
		}
	}
	return false
}
