package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func report(t *testing.T, dir, name string, events ...event) {
	t.Helper()
	var b strings.Builder
	for _, e := range events {
		data, err := json.Marshal(e)
		require.NoError(t, err)
		b.Write(data)
		b.WriteByte('\n')
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(b.String()), 0o600))
}

func shown(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, run(&b, dir))
	return b.String()
}

func TestWhatPassedIsNotShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	assert.Empty(t, shown(t, dir), "no reports yet")
	report(t, dir, "unit.json", event{Action: "run", Package: "p", Test: "T"}, event{Action: "output", Package: "p", Test: "T", Output: "fine\n"},
		event{Action: "pass", Package: "p", Test: "T"}, event{Action: "pass", Package: "p"})
	assert.Empty(t, shown(t, dir))
}

func TestAFailedPartIsShownOnceWithItsLastLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	events := []event{{Action: "run", Package: "p", Test: "T"}, {Action: "run", Package: "p", Test: "T/part"}, {Action: "run", Package: "p", Test: "T/other"}}
	for i := range 100 {
		events = append(events, event{Action: "output", Package: "p", Test: "T/part", Output: fmt.Sprintf("line %d\n", i)})
	}
	events = append(events, event{Action: "fail", Package: "p", Test: "T/part"}, event{Action: "pass", Package: "p", Test: "T/other"},
		event{Action: "output", Package: "p", Test: "T", Output: "--- FAIL: T\n"}, event{Action: "fail", Package: "p", Test: "T"},
		event{Action: "output", Package: "p", Output: "FAIL\n"}, event{Action: "fail", Package: "p"})
	report(t, dir, "unit.json", events...)
	got := shown(t, dir)
	assert.True(t, strings.HasPrefix(got, "== failed: p T/part\n   ... 60 lines before\n   line 60\n"), got)
	assert.True(t, strings.HasSuffix(got, "   line 99\n"), got)
	assert.Equal(t, 1, strings.Count(got, "== "), "the parent and the package say nothing new")
}

func TestWhatHasNoTestToBlame(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		events []event
		want   []string
	}{
		"a build": {[]event{
			{Action: "build-output", ImportPath: "p [p.test]", Output: "p/x.go:1: undefined: y\n"}, {Action: "build-fail", ImportPath: "p [p.test]"},
			{Action: "output", Package: "p", Output: "FAIL p [build failed]\n"}, {Action: "fail", Package: "p", FailedBuild: "p [p.test]"},
		}, []string{"== failed: p [p.test]\n   p/x.go:1: undefined: y\n"}},
		"a package": {[]event{
			{Action: "output", Package: "p", Output: "e2e: the machines were not taken down\n"}, {Action: "fail", Package: "p"},
		}, []string{"== failed: p\n   e2e: the machines were not taken down\n"}},
		"a panic beside a test": {[]event{
			{Action: "run", Package: "p", Test: "T"}, {Action: "output", Package: "p", Test: "T", Output: "panic: nil\n"}, {Action: "fail", Package: "p", Test: "T"},
			{Action: "output", Package: "p", Output: "panic: of another goroutine\n"}, {Action: "fail", Package: "p"},
		}, []string{"== failed: p\n   panic: of another goroutine\n", "== failed: p T\n   panic: nil\n"}},
		"a run that was killed": {[]event{
			{Action: "run", Package: "p", Test: "T"}, {Action: "output", Package: "p", Test: "T", Output: "waiting\n"},
		}, []string{"== failed: p T\n   waiting\n   (it never ended)\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			report(t, dir, "unit.json", c.events...)
			assert.Equal(t, strings.Join(c.want, ""), shown(t, dir))
		})
	}
}

func TestOtherPartsAreShownToo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lint.failed"), []byte("a.go:1: no\n1 issues\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "components.txt"), []byte("built\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "unit.json"), []byte(`{"Action":"run","Pack`), 0o600))
	assert.Equal(t, "== failed: lint\n   a.go:1: no\n   1 issues\n", shown(t, dir))
}

func TestManyFailuresAreCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var events []event
	for i := range most + 3 {
		events = append(events, event{Action: "fail", Package: "p", Test: fmt.Sprintf("T%02d", i)})
	}
	report(t, dir, "unit.json", events...)
	assert.True(t, strings.HasSuffix(shown(t, dir), "== and 3 more failed\n"))
}
