package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// tally is which lines were found, where and how often.
type tally struct {
	marker  string
	writers []writer
	index   map[string]int // writer's name to its place
	// found has for each writer and line (from 0) its first sighting
	found [][]sighting
	// again are sightings of a line that was found before
	again []again
	seen  int // lines that were found
	// alien are lines that no writer printed
	alien []string
	dec   *zstd.Decoder
}

// sighting is a line in an object.
type sighting struct {
	printed int64 // when, in nanoseconds since 1970; 0: not found
	object  uint64
}

type again struct {
	writer, line  int
	first, second sighting
	made          time.Time // when the second object was put together
}

func newTally(marker string, writers []writer) *tally {
	t := &tally{marker: marker, writers: writers, index: map[string]int{}}
	for i, w := range writers {
		t.index[w.name] = i
		t.found = append(t.found, make([]sighting, w.lines))
	}
	t.dec, _ = zstd.NewReader(nil) // its only errors are of options
	return t
}

// record is what a line became.
type record struct{ Namespace, Pod, Message string }

// line adds one record; others than the writers' are passed over.
func (t *tally) line(text []byte, at sighting, made time.Time) error {
	if !bytes.Contains(text, []byte(t.marker)) {
		return nil
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	// others tell of the writers too: the audit log, kubelet
	if r.Namespace != t.marker {
		return nil
	}
	w, n, ok := t.parse(r)
	if !ok {
		t.alien = append(t.alien, string(text))
		return nil
	}
	if first := t.found[w][n]; first.printed != 0 {
		t.again = append(t.again, again{w, n, first, at, made})
		return nil
	}
	t.found[w][n] = at
	t.seen++
	return nil
}

// parse accepts a line only as it was printed, to its last byte.
func (t *tally) parse(r record) (w, n int, ok bool) {
	w, known := t.index[r.Pod]
	rest, marked := strings.CutPrefix(r.Message, t.marker+" ")
	number, tail, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(number)
	if !known || !marked || err != nil || n < 1 || n > t.writers[w].lines || tail != padding {
		return 0, 0, false
	}
	return w, n - 1, true
}

// object adds the records of one object: a line of JSON that is the header, then one for each record.
func (t *tally) object(body []byte) error {
	plain, err := t.dec.DecodeAll(body, nil)
	if err != nil {
		return err
	}
	head, lines, ok := bytes.Cut(plain, []byte{'\n'})
	var h struct {
		Sequence uint64
		Created  time.Time
	}
	if err := json.Unmarshal(head, &h); err != nil || !ok {
		return errors.Join(errors.New("its header is not a line of JSON"), err)
	}
	for text := range bytes.Lines(lines) {
		var l struct {
			TS     int64 `json:"ts,string"`
			Record json.RawMessage
		}
		if err := json.Unmarshal(text, &l); err != nil {
			return fmt.Errorf("%.200q: %w", text, err)
		}
		if err := t.line(l.Record, sighting{l.TS, h.Sequence}, h.Created); err != nil {
			return err
		}
	}
	return nil
}

// missing are the lines of each writer that were not found.
func (t *tally) missing() []Lines {
	var out []Lines
	for w, found := range t.found {
		for n, s := range found {
			if s.printed == 0 {
				out = extend(out, t.writers[w].name, n+1)
			}
		}
	}
	return out
}

// Lines are lines of a writer that follow each other.
type Lines struct {
	Writer   string
	From, To int
}

func (l Lines) String() string { return fmt.Sprintf("%s %d-%d", l.Writer, l.From, l.To) }

func extend(list []Lines, name string, n int) []Lines {
	if i := len(list) - 1; i >= 0 && list[i].Writer == name && list[i].To == n-1 {
		list[i].To = n
		return list
	}
	return append(list, Lines{name, n, n})
}

func count(list []Lines) int {
	n := 0
	for _, l := range list {
		n += l.To - l.From + 1
	}
	return n
}

// Duplicates are lines that are in the evidence more than once.
type Duplicates struct {
	Lines
	// First and Second are the objects that the first of them is in.
	First, Second uint64
	// Kill is the killing of the writer's agent that explains them; empty: nothing does.
	Kill string
}

// duplicates groups what came again. An agent that dies sends once more what it read last and had not yet noted as read: for
// each kill and file one run of lines, printed before it, stored the second time after it.
func (t *tally) duplicates(deeds []deed) []Duplicates {
	all := slices.Clone(t.again)
	slices.SortFunc(all, func(a, b again) int { return 1000000000*(a.writer-b.writer) + a.line - b.line })
	var out []Duplicates
	explained := map[string]bool{}
	for i, a := range all {
		name := t.writers[a.writer].name
		if k := len(out) - 1; i > 0 && out[k].Writer == name && out[k].To == a.line && reason(deeds, t.writers[a.writer].node, a) == out[k].Kill {
			out[k].To++
			continue
		}
		d := Duplicates{Lines{name, a.line + 1, a.line + 1}, a.first.object, a.second.object, reason(deeds, t.writers[a.writer].node, a)}
		if d.Kill != "" && explained[name+d.Kill] {
			d.Kill = "" // a second run of one kill
		}
		explained[name+d.Kill] = true
		out = append(out, d)
	}
	return out
}

// reason is the kill of an agent between the printing of a line and its second coming.
func reason(deeds []deed, node string, a again) string {
	for _, d := range deeds {
		if d.agent == node && a.first.printed < d.to.UnixNano() && a.made.After(d.from) {
			return d.Name
		}
	}
	return ""
}
