package chain

import (
	"context"
	"errors"
	"iter"
	"time"
)

var (
	// ErrExists says that Put found an object under that key and left it alone.
	ErrExists = errors.New("an object with this key exists")
	// ErrNotFound says that there is no such object.
	ErrNotFound = errors.New("no such object")
)

// ModeCompliance is the only lock that nobody can shorten or lift, the store's root user included.
const ModeCompliance = "COMPLIANCE"

// Info is what a store says about an object.
type Info struct {
	Size int64
	// Mode is the lock's mode; empty without a lock.
	Mode string
	// RetainUntil is the lock's end; zero without a lock.
	RetainUntil time.Time
}

// Store is what the writer needs of an object store. Every method may be called again after any error.
type Store interface {
	// Put stores body under key with a COMPLIANCE lock until retainUntil, unless the key is taken: then it is ErrExists. After
	// any other error the object may or may not be there, or appear later.
	Put(ctx context.Context, key string, body []byte, retainUntil time.Time) error
	// Head tells about an object; ErrNotFound.
	Head(ctx context.Context, key string) (Info, error)
	// Get returns an object's first bytes, or all of it when first is 0; ErrNotFound.
	Get(ctx context.Context, key string, first int64) ([]byte, error)
	// After returns the first key that starts with prefix and sorts behind after; "" when there is none.
	After(ctx context.Context, prefix, after string) (string, error)
}

// Version is one version of an object in a bucket with versioning.
type Version struct {
	Key, ID, ETag string
	Size          int64
	// Written is when the store took it in.
	Written time.Time
	// Deleted says that this version is a delete marker.
	Deleted bool
}

// Archive is what Verify needs of an object store.
type Archive interface {
	// Versions yields all versions of all objects whose key starts with prefix, ordered by key.
	Versions(ctx context.Context, prefix string) iter.Seq2[Version, error]
	// Object returns one version and its lock.
	Object(ctx context.Context, key, version string) ([]byte, Info, error)
}

// Sink takes the records of a stored object for searching.
type Sink interface {
	// Push delivers all entries, or returns an error. It may be called again with the same object at any time, also after it
	// succeeded, and must not show an entry twice then.
	Push(ctx context.Context, o *Object) error
}

// Object is a stored object as the sink sees it.
type Object struct {
	Key     string
	Header  Header
	Entries []Entry
}

// Entry is one record on its way to the sink.
type Entry struct {
	// Stream is an index into Header.Streams.
	Stream int
	// At is the time it is filed under, Time the client's, both in nanoseconds since 1970. They differ by less than a
	// millisecond, or by much where the sink would refuse the client's time (too old, too new).
	At, Time int64
	// Line is the record's JSON.
	Line []byte
}
