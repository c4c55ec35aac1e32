// Package chaintest holds an object store and a sink in memory, which fail as they are told to, for tests and benchmarks.
// They are stand-ins: the tests of ../../store run against a real object store.
package chaintest

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // an ETag
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// Fault is what happens to one call. It is asked before the call is carried out and returns what to do.
type Fault int

const (
	// None says: the call is carried out and answered.
	None Fault = iota
	// Refused says: the call is not carried out; the caller gets an error.
	Refused
	// Unanswered says: the call is carried out, the caller gets an error.
	Unanswered
	// Late says: the caller gets an error, the call is carried out at the next Settle.
	Late
)

// Object is one version in a Store.
type Object struct {
	Body    []byte
	Info    chain.Info
	Written time.Time
	Deleted bool
}

// Store is an object store in memory with versions and If-None-Match.
type Store struct {
	// Fault, when set, is asked for each call: op is put, head, get or after.
	Fault func(op, key string) Fault
	// NoLock makes Put forget the lock, as a bucket without object lock would.
	NoLock bool
	// Overwrites makes Put ignore what is there, as a store without If-None-Match would.
	Overwrites bool

	mu      sync.Mutex
	objects map[string][]Object
	late    []func()
	clock   int64
}

var errInjected = fmt.Errorf("injected fault")

func (s *Store) fault(op, key string) Fault {
	if s.Fault == nil {
		return None
	}
	return s.Fault(op, key)
}

// Put implements chain.Store.
func (s *Store) Put(ctx context.Context, key string, body []byte, retainUntil time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fault := s.fault("put", key)
	if fault == Refused {
		return errInjected
	}
	body = slices.Clone(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if fault == Late {
		s.late = append(s.late, func() { _ = s.put(key, body, retainUntil) })
		return errInjected
	}
	err := s.put(key, body, retainUntil)
	if fault == Unanswered {
		return errInjected
	}
	return err
}

func (s *Store) put(key string, body []byte, retainUntil time.Time) error {
	if len(s.objects[key]) > 0 && !s.Overwrites {
		return chain.ErrExists
	}
	info := chain.Info{Size: int64(len(body)), Mode: chain.ModeCompliance, RetainUntil: retainUntil}
	if s.NoLock {
		info.Mode, info.RetainUntil = "", time.Time{}
	}
	s.add(key, Object{Body: body, Info: info})
	return nil
}

func (s *Store) add(key string, o Object) {
	if s.objects == nil {
		s.objects = map[string][]Object{}
	}
	s.clock++
	o.Written = time.Unix(s.clock, 0)
	s.objects[key] = append(s.objects[key], o)
}

// Settle carries out the late calls.
func (s *Store) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.late {
		f()
	}
	s.late = nil
}

// Add adds a version, whatever is there.
func (s *Store) Add(key string, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(key, o)
}

// Replace changes the first version of an object, which no real store would do.
func (s *Store) Replace(key string, change func(*Object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key][0]
	o.Body = slices.Clone(o.Body)
	change(&o)
	s.objects[key] = slices.Clone(s.objects[key])
	s.objects[key][0] = o
}

// Remove removes an object with all versions, which no real store would do.
func (s *Store) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
}

// Clone returns a copy without faults.
func (s *Store) Clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Store{objects: map[string][]Object{}, clock: s.clock}
	for k, v := range s.objects {
		c.objects[k] = slices.Clone(v)
	}
	return c
}

// Keys returns all keys, sorted.
func (s *Store) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys("")
}

func (s *Store) keys(prefix string) []string {
	var out []string
	for k := range s.objects {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (s *Store) newest(key string) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.objects[key]); n > 0 && !s.objects[key][n-1].Deleted {
		return s.objects[key][n-1], nil
	}
	return Object{}, chain.ErrNotFound
}

// Head implements chain.Store.
func (s *Store) Head(_ context.Context, key string) (chain.Info, error) {
	if s.fault("head", key) != None {
		return chain.Info{}, errInjected
	}
	o, err := s.newest(key)
	return o.Info, err
}

// Get implements chain.Store.
func (s *Store) Get(_ context.Context, key string, first int64) ([]byte, error) {
	if s.fault("get", key) != None {
		return nil, errInjected
	}
	o, err := s.newest(key)
	if err != nil {
		return nil, err
	}
	if first > 0 && int64(len(o.Body)) > first {
		return o.Body[:first], nil
	}
	return o.Body, nil
}

// After implements chain.Store.
func (s *Store) After(_ context.Context, prefix, after string) (string, error) {
	if s.fault("after", after) != None {
		return "", errInjected
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys(prefix) {
		if k > after {
			return k, nil
		}
	}
	return "", nil
}

// Versions implements chain.Archive.
func (s *Store) Versions(_ context.Context, prefix string) iter.Seq2[chain.Version, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []chain.Version
	for _, k := range s.keys(prefix) {
		for i, o := range slices.Backward(s.objects[k]) {
			sum := md5.Sum(o.Body) //nolint:gosec // an ETag
			list = append(list, chain.Version{Key: k, ID: strconv.Itoa(i), ETag: hex.EncodeToString(sum[:]),
				Size: int64(len(o.Body)), Written: o.Written, Deleted: o.Deleted})
		}
	}
	return func(yield func(chain.Version, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Object implements chain.Archive.
func (s *Store) Object(_ context.Context, key, version string) ([]byte, chain.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := strconv.Atoi(version)
	if err != nil || i >= len(s.objects[key]) {
		return nil, chain.Info{}, chain.ErrNotFound
	}
	return bytes.Clone(s.objects[key][i].Body), s.objects[key][i].Info, nil
}

// Pending counts the calls that Settle would carry out.
func (s *Store) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.late)
}
