package plan

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Entry is one line of the journal. Hash is sha256 over the entry with Hash empty; Prev is the hash of the line before.
type Entry struct {
	Seq       int       `json:"seq"`
	Time      time.Time `json:"time"`
	Run       string    `json:"run"` // random, one a run
	Type      string    `json:"type"`
	Step      string    `json:"step,omitempty"`
	Node      string    `json:"node,omitempty"`
	Title     string    `json:"title,omitempty"`
	TookMS    int64     `json:"tookMs,omitempty"`
	Error     string    `json:"error,omitempty"`
	Operator  string    `json:"operator,omitempty"`
	Machine   string    `json:"machine,omitempty"`   // of the operator
	Version   string    `json:"version,omitempty"`   // of catamaran
	Inventory string    `json:"inventory,omitempty"` // sha256 of the file
	Plan      string    `json:"plan,omitempty"`      // digest
	Prev      string    `json:"prev"`
	Hash      string    `json:"hash"`
}

// JournalName is the journal's file in the site folder.
const JournalName = "journal.jsonl"

// Entry types beside those of events. EntryRun begins a run.
const (
	EntryRun    = "run"    // begins a run
	EntryRepair = "repair" // the line before was cut off by a crash; Error holds what was left of it
)

// Journal appends to a hash-chained file of JSON lines. Every line is on disk before Record returns.
type Journal struct {
	mu   sync.Mutex
	f    *os.File
	run  string
	seq  int
	prev string
	err  error
}

// OpenJournal opens or begins a journal. A line that a crash cut off is kept inside a repair entry.
func OpenJournal(path string, head Entry) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{f: f}
	var id [6]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	j.run = hex.EncodeToString(id[:])
	torn, err := j.resume()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), f.Close())
	}
	if torn != "" {
		j.append(Entry{Type: EntryRepair, Error: torn})
	}
	head.Type = EntryRun
	j.append(head)
	if j.err != nil {
		return nil, errors.Join(j.err, f.Close())
	}
	return j, nil
}

// resume finds the end of the chain, and cuts off a line without its end.
func (j *Journal) resume() (torn string, err error) {
	data, err := io.ReadAll(j.f)
	if err != nil {
		return "", err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	torn = string(data[whole:])
	if whole > 0 {
		lines := bytes.Split(bytes.TrimSuffix(data[:whole], []byte("\n")), []byte("\n"))
		var last Entry
		if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil {
			return "", fmt.Errorf("line %d is not an entry: %w", len(lines), err)
		}
		j.seq, j.prev = last.Seq, last.Hash
	}
	if err := j.f.Truncate(int64(whole)); err != nil {
		return "", err
	}
	_, err = j.f.Seek(0, io.SeekEnd)
	return torn, err
}

// Record appends an event; output lines are not kept. An error is kept for Close, and the run goes on.
func (j *Journal) Record(e Event) {
	if e.Type == Output {
		return
	}
	j.append(Entry{Time: e.Time, Type: string(e.Type), Step: e.Step, Node: e.Node, Title: e.Title, TookMS: e.Took.Milliseconds(), Error: e.Error})
}

func (j *Journal) append(e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC()
	e.Seq, e.Run, e.Prev = j.seq+1, j.run, j.prev
	e.Hash = e.digest()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.f.Write(append(line, '\n'))
	}
	if err = errors.Join(err, j.f.Sync()); err != nil {
		j.err = fmt.Errorf("journal: %w", err)
		return
	}
	j.seq, j.prev = e.Seq, e.Hash
}

func (e Entry) digest() string {
	e.Hash = ""
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // plain data
	}
	return sum(string(data))
}

// Close ends the journal and says what could not be written.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.err, j.f.Close())
}

// ReadJournal reads and checks a journal: every hash, and that no line is missing, added or moved.
func ReadJournal(r io.Reader) ([]Entry, error) {
	var out []Entry
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	prev := ""
	for n := 1; sc.Scan(); n++ {
		var e Entry
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return out, fmt.Errorf("line %d is not an entry: %w", n, err)
		}
		switch {
		case e.Seq != n:
			return out, fmt.Errorf("line %d has number %d: lines are missing or added", n, e.Seq)
		case e.Prev != prev:
			return out, fmt.Errorf("line %d does not follow line %d: the chain is broken", n, n-1)
		case e.digest() != e.Hash:
			return out, fmt.Errorf("line %d was changed", n)
		}
		prev = e.Hash
		out = append(out, e)
	}
	return out, sc.Err()
}
