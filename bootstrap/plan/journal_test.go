package plan

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func writeJournal(t *testing.T, path string, steps ...string) {
	t.Helper()
	j, err := OpenJournal(path, Entry{Operator: "ada"})
	require.NoError(t, err)
	for _, s := range steps {
		j.Record(Event{Time: time.Unix(1, 0), Type: Begin, Step: s})
		j.Record(Event{Time: time.Unix(2, 0), Type: Output, Step: s, Line: "not kept"})
		j.Record(Event{Time: time.Unix(3, 0), Type: End, Step: s, Took: 2 * time.Second})
	}
	require.NoError(t, j.Close())
}

func TestTheJournalGoesOnAcrossRuns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), JournalName)
	writeJournal(t, path, "a", "b")
	writeJournal(t, path, "c")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	entries, err := ReadJournal(bytes.NewReader(data))
	require.NoError(t, err)
	var types []string
	for _, e := range entries {
		types = append(types, e.Type+" "+e.Step)
	}
	assert.Equal(t, []string{"run ", "begin a", "end a", "begin b", "end b", "run ", "begin c", "end c"}, types)
	assert.NotEqual(t, entries[0].Run, entries[5].Run)
	assert.EqualValues(t, 2000, entries[2].TookMS)
	assert.NotContains(t, string(data), "not kept")
}

func TestOneChangedByteBreaksTheChain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), JournalName)
	writeJournal(t, path, "a", "b")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		entries, err := ReadJournal(bytes.NewReader(changed))
		if err == nil && string(mustJSON(t, entries)) == string(mustJSON(t, mustRead(t, data))) {
			continue // white space, or the case of a JSON key: the same entry
		}
		assert.Error(t, err, "byte %d (%q) of the journal", i, data[i])
	}
	lines := strings.SplitAfter(string(data), "\n")
	for _, c := range []struct {
		name, text, want string
	}{
		{"a line removed", lines[0] + strings.Join(lines[2:], ""), "lines are missing or added"},
		{"two lines swapped", lines[0] + lines[2] + lines[1], "lines are missing or added"},
		{"no JSON", lines[0] + "nonsense\n", "line 2 is not an entry"},
	} {
		_, err := ReadJournal(strings.NewReader(c.text))
		assert.ErrorContains(t, err, c.want, c.name)
	}
}

func TestALineCutOffByACrashIsKeptAsSuch(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), JournalName)
	writeJournal(t, path, "a")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data[:len(data)-20], 0o600))
	writeJournal(t, path, "b")
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	entries, err := ReadJournal(bytes.NewReader(data))
	require.NoError(t, err)
	assert.Equal(t, EntryRepair, entries[2].Type)
	assert.Contains(t, entries[2].Error, `"step":"a"`)
	assert.Equal(t, EntryRun, entries[3].Type)
}

func mustRead(t *testing.T, data []byte) []Entry {
	t.Helper()
	e, err := ReadJournal(bytes.NewReader(data))
	require.NoError(t, err)
	return e
}

func mustJSON(t *testing.T, e []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, x := range e {
		b.WriteString(x.Hash + x.Step + x.Error)
	}
	return b.Bytes()
}

func TestTheSecondHolderIsToldWhoIsFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := Acquire(dir, Holder{User: "ada", Host: "console", PID: 7, Command: "apply"})
	require.NoError(t, err)
	_, err = Acquire(dir, Holder{User: "bob"})
	var held *HeldError
	require.ErrorAs(t, err, &held)
	assert.Contains(t, err.Error(), "apply of ada on console (process 7)")
	first.Release()
	second, err := Acquire(dir, Holder{User: "bob"})
	require.NoError(t, err)
	second.Release()
}
