package chain

import (
	"crypto/sha256"
	"encoding/hex"
)

// Labels are what a record is filed under. All but the tenant come from the client, so their number is bounded by the
// writer and the tenant itself is never among them. Empty values are left out.
type Labels struct {
	Source    string `json:"source,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Container string `json:"container,omitempty"`
	Node      string `json:"node,omitempty"`
}

// Record is one record of a chunk.
type Record struct {
	// Time is the client's, in nanoseconds since 1970.
	Time int64
	// Stream is an index into Chunk.Streams.
	Stream int32
	// From and To bound the record's JSON in Chunk.JSON.
	From, To int
}

// Chunk is what a client sent in one message and wants acknowledged as one.
type Chunk struct {
	// ID is the client's name of the chunk; empty when it asks for no acknowledgement. Such a chunk is never a duplicate.
	ID string
	// Digest is over the chunk's entries as they came. A chunk that comes again has the same ID and the same Digest.
	Digest [sha256.Size]byte
	// Tag is the Fluentd tag.
	Tag     string
	Streams []Labels
	Records []Record
	// JSON holds the records' texts, one behind the other.
	JSON []byte
}

// perRecord is about what a record costs beside its text: its place in the chunk and its line in the object.
const perRecord = 96

// Size is about what the chunk occupies in memory and in an object, in bytes.
func (c *Chunk) Size() int64 {
	return int64(len(c.JSON)) + int64(len(c.Records))*(perRecord+int64(len(c.Tag)))
}

// chunkKey tells chunks apart. The digest is part of it so that nobody can have a chunk taken for delivered by using its
// ID first.
type chunkKey [16]byte

func (c *Chunk) key() chunkKey { return keyOf(c.ID, hex.EncodeToString(c.Digest[:])) }

func keyOf(id, digest string) chunkKey {
	h := sha256.New()
	h.Write([]byte(id))
	h.Write([]byte{0})
	h.Write([]byte(digest))
	return chunkKey(h.Sum(nil)[:16])
}

// recent is a set of the newest max keys.
type recent struct {
	max  int
	ring []chunkKey
	next int
	set  map[chunkKey]struct{}
}

func newRecent(limit int) *recent {
	return &recent{max: limit, set: map[chunkKey]struct{}{}}
}

func (r *recent) has(k chunkKey) bool {
	_, ok := r.set[k]
	return ok
}

func (r *recent) add(k chunkKey) {
	if r.has(k) {
		return
	}
	if len(r.ring) < r.max {
		r.ring = append(r.ring, k)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = k
		r.next = (r.next + 1) % r.max
	}
	r.set[k] = struct{}{}
}
