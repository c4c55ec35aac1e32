package chain

import (
	"context"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Kind is what kind of thing is wrong with a chain.
type Kind string

const (
	// Gap says: one or more numbers are missing.
	Gap Kind = "gap"
	// Changed says: an object is not what the next one, or its own header, says it was.
	Changed Kind = "changed"
	// Unreadable says: an object cannot be decompressed or parsed.
	Unreadable Kind = "unreadable"
	// Unlocked says: an object has no COMPLIANCE lock, or a shorter one than was asked for.
	Unlocked Kind = "unlocked"
	// Misplaced says: an object says it is another number, or another tenant's.
	Misplaced Kind = "misplaced"
	// DuplicateChunk says: a chunk is stored twice.
	DuplicateChunk Kind = "duplicate-chunk"
	// Rewritten says: something else was written under an object's key later. The first version is still there and is the one
	// that was checked.
	Rewritten Kind = "rewritten"
	// Hidden says: an object was deleted by a marker. Its version is still there and was checked.
	Hidden Kind = "hidden"
	// Foreign says: an object under the tenant's prefix is none of the chain's.
	Foreign Kind = "foreign"
	// Truncated says: the chain ends before, or differs at, a point where it is known to have been.
	Truncated Kind = "truncated"
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind     Kind   `json:"kind"`
	Sequence uint64 `json:"sequence,omitempty"`
	Key      string `json:"key,omitempty"`
	Detail   string `json:"detail"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s at %d (%s): %s", f.Kind, f.Sequence, f.Key, f.Detail)
}

// Point is a place in a chain: what a verification ended with, to be compared with by the next one.
type Point struct {
	Sequence uint64 `json:"sequence"`
	SHA256   string `json:"sha256"`
}

// VerifyOptions says what to verify.
type VerifyOptions struct {
	Tenant string
	// Begin is the first number that must be there; 0 means 1. Higher where objects were removed after their retention.
	Begin uint64
	// Known is where the chain is known to have been: a chain alone cannot tell that its newest objects are gone.
	Known *Point
	// MinRetention is the least time between an object's making and the end of its lock; 0: only what its header says.
	MinRetention time.Duration
	// Parallel is how many objects are read at once, default 8. Memory is about that many objects, decompressed.
	Parallel int
	// MaxFindings bounds the list of findings, default 1000; Report.Dropped counts the rest.
	MaxFindings int
}

// Report is the result of a verification.
type Report struct {
	Tenant string `json:"tenant"`
	// First and Last are the numbers of the first and last object that were found; 0 without any.
	First uint64 `json:"first"`
	Last  Point  `json:"last"`
	// Newest is when the last object was made.
	Newest   time.Time `json:"newest"`
	Objects  int64     `json:"objects"`
	Records  int64     `json:"records"`
	Chunks   int64     `json:"chunks"`
	Bytes    int64     `json:"bytes"`
	Findings []Finding `json:"findings"`
	Dropped  int       `json:"droppedFindings,omitempty"`
}

// OK says that nothing is wrong.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// verifiedChunks is how many chunks are remembered to find duplicates: weeks of a busy tenant, 60 MB.
const verifiedChunks = 1 << 20

// Verify reads a whole chain and reports what is wrong with it. An error says that it could not be read, for example
// because the store did not answer: then the report says nothing.
func Verify(ctx context.Context, archive Archive, opt VerifyOptions) (Report, error) {
	if opt.Parallel <= 0 {
		opt.Parallel = 8
	}
	if opt.MaxFindings <= 0 {
		opt.MaxFindings = 1000
	}
	if opt.Begin == 0 {
		opt.Begin = 1
	}
	dec, err := newDecoder()
	if err != nil {
		return Report{}, err
	}
	defer dec.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &verifier{opt: opt, chunks: newRecent(verifiedChunks), report: Report{Tenant: opt.Tenant, Findings: []Finding{}}}
	for p := range read(ctx, archive, dec, opt) {
		link := <-p
		if link.err != nil {
			return Report{}, link.err
		}
		v.link(link)
	}
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	v.finish()
	return v.report, nil
}

// link is one object as it was read.
type link struct {
	key      string
	sequence uint64 // 0: none of the chain's
	version  Version
	later    []Version // other versions of the same key, not the same bytes
	header   Header
	sha256   string
	size     int64
	info     Info
	bad      error // it cannot be opened
	err      error // the store failed
}

// read yields a channel for each key in order, which holds the link once it is read. Parallel ones are being read.
func read(ctx context.Context, archive Archive, dec *zstd.Decoder, opt VerifyOptions) <-chan chan link {
	order := make(chan chan link, opt.Parallel)
	go func() {
		defer close(order)
		slots := make(chan struct{}, opt.Parallel)
		emit := func(l link) bool {
			out := make(chan link, 1)
			if l.err != nil || l.sequence == 0 || l.version.Deleted {
				out <- l
			} else {
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return false
				}
				go func() {
					defer func() { <-slots }()
					fetch(ctx, archive, dec, &l)
					out <- l
				}()
			}
			select {
			case order <- out:
				return true
			case <-ctx.Done():
				return false
			}
		}
		var same []Version
		flush := func() bool { return len(same) == 0 || emit(linkOf(opt.Tenant, same)) }
		for v, err := range archive.Versions(ctx, Prefix(opt.Tenant)) {
			if err != nil {
				emit(link{err: fmt.Errorf("list the objects of %s: %w", opt.Tenant, err)})
				return
			}
			if len(same) > 0 && same[0].Key != v.Key {
				if !flush() {
					return
				}
				same = same[:0]
			}
			same = append(same, v)
		}
		flush()
	}()
	return order
}

// linkOf chooses among a key's versions: the chain's is the first that was written.
func linkOf(tenant string, same []Version) link {
	first := -1
	for i, v := range same {
		if !v.Deleted && (first < 0 || v.Written.Before(same[first].Written)) {
			first = i
		}
	}
	l := link{key: same[0].Key, version: Version{Deleted: true}}
	if first >= 0 {
		l.version = same[first]
	}
	if n, err := Sequence(tenant, l.key); err == nil {
		l.sequence = n
	}
	for i, v := range same {
		if i != first && (v.Deleted || v.ETag != l.version.ETag || v.Size != l.version.Size) {
			l.later = append(l.later, v)
		}
	}
	return l
}

func fetch(ctx context.Context, archive Archive, dec *zstd.Decoder, l *link) {
	body, info, err := archive.Object(ctx, l.key, l.version.ID)
	if err != nil {
		l.err = fmt.Errorf("read object %s: %w", l.key, err)
		return
	}
	l.sha256, l.info, l.size = digest(body), info, int64(len(body))
	l.header, _, l.bad = open(dec, body)
	l.header.Streams = nil
}

// verifier follows the links in order.
type verifier struct {
	opt    VerifyOptions
	report Report
	chunks *recent
	// next is the number that is expected, 0 before the first; previous the hash of the one before, "" when it is missing.
	next     uint64
	previous string
	atKnown  bool
	changed  uint64 // the last number that was reported as changed
}

func (v *verifier) add(kind Kind, l link, format string, args ...any) {
	if kind == Changed || kind == Unreadable {
		v.changed = l.sequence
	}
	if len(v.report.Findings) >= v.opt.MaxFindings {
		v.report.Dropped++
		return
	}
	v.report.Findings = append(v.report.Findings, Finding{Kind: kind, Sequence: l.sequence, Key: l.key, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) link(l link) {
	if l.sequence == 0 {
		v.add(Foreign, l, "no object of the chain has this name")
		return
	}
	for _, other := range l.later {
		if other.Deleted {
			v.add(Hidden, l, "deleted by a marker at %s", other.Written.UTC().Format(time.RFC3339))
		} else {
			v.add(Rewritten, l, "another version of %d bytes was written at %s", other.Size, other.Written.UTC().Format(time.RFC3339))
		}
	}
	if l.version.Deleted {
		return // nothing but markers is left: the number is missing
	}
	if v.next == 0 {
		v.report.First = l.sequence
		v.next = v.opt.Begin
		if v.next == 1 {
			v.previous = Genesis()
		}
		if l.sequence < v.next {
			v.next, v.previous = l.sequence, ""
		}
	}
	if l.sequence > v.next {
		v.add(Gap, link{key: Key(v.opt.Tenant, v.next), sequence: v.next}, "%d missing, up to %d", l.sequence-v.next, l.sequence-1)
		v.previous = ""
	}
	v.report.Objects++
	v.report.Bytes += l.size
	v.report.Last = Point{Sequence: l.sequence, SHA256: l.sha256}
	if k := v.opt.Known; k != nil && k.Sequence == l.sequence {
		v.atKnown = true
		if k.SHA256 != l.sha256 {
			v.add(Truncated, l, "its sha256 is %s, it was known as %s", l.sha256, k.SHA256)
		}
	}
	v.lock(l)
	if l.bad != nil {
		v.add(Unreadable, l, "%v", l.bad)
	} else {
		v.content(l)
	}
	v.next, v.previous = l.sequence+1, l.sha256
}

func (v *verifier) lock(l link) {
	until := l.header.RetainUntil
	if l.bad != nil {
		until = time.Time{}
	}
	if reason := lockWrong(l.info, until); reason != "" {
		v.add(Unlocked, l, "%s", reason)
		return
	}
	if l.bad == nil && l.info.RetainUntil.Sub(l.header.Created) < v.opt.MinRetention-time.Second {
		v.add(Unlocked, l, "it is locked for %s, expected at least %s", l.info.RetainUntil.Sub(l.header.Created).Round(time.Second), v.opt.MinRetention)
	}
}

func (v *verifier) content(l link) {
	h := l.header
	if h.Tenant != v.opt.Tenant || h.Sequence != l.sequence {
		v.add(Misplaced, l, "it says it is object %d of %s", h.Sequence, h.Tenant)
		return
	}
	if v.previous != "" && h.Previous != v.previous {
		if before := l.sequence - 1; before == 0 {
			v.add(Changed, l, "it is the first and says that %s is before it", h.Previous)
		} else if v.changed != before {
			v.add(Changed, link{key: Key(v.opt.Tenant, before), sequence: before}, "its sha256 is %s, object %d says %s", v.previous, l.sequence, h.Previous)
		}
	}
	v.report.Newest = h.Created
	v.report.Records += int64(h.Records)
	v.report.Chunks += int64(len(h.Chunks))
	for _, c := range h.Chunks {
		// What has no lock was not acknowledged, and is stored again with one.
		if c.ID == "" || l.info.Mode != ModeCompliance {
			continue
		}
		k := keyOf(c.ID, c.SHA256)
		if v.chunks.has(k) {
			v.add(DuplicateChunk, l, "chunk %q is in an earlier object too", c.ID)
		}
		v.chunks.add(k)
	}
}

func (v *verifier) finish() {
	if v.opt.Begin > 1 && v.report.Last.Sequence == 0 {
		v.add(Gap, link{key: Key(v.opt.Tenant, v.opt.Begin), sequence: v.opt.Begin}, "there is no object at all")
	}
	if k := v.opt.Known; k != nil && !v.atKnown {
		v.add(Truncated, link{key: Key(v.opt.Tenant, k.Sequence), sequence: k.Sequence}, "the chain was here once; it ends at %d now", v.report.Last.Sequence)
	}
}
