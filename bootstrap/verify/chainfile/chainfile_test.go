package chainfile

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain/chaintest"
)

const tenant = "umea"

// written is a store with a chain of n objects, made by the gateway's own writer.
func written(t *testing.T, n int) *chaintest.Store {
	t.Helper()
	store := &chaintest.Store{}
	w, err := chain.New(chain.Options{
		Tenant: tenant, Store: store, Sink: &chaintest.Sink{}, Retention: 48 * time.Hour, ObjectBytes: 1, MaxWait: time.Millisecond,
		BufferBytes: 1 << 20, RecentChunks: 100, RecentObjects: 100, MaxStreams: 10,
		Timing:   chain.Timing{MaxAge: time.Hour, MaxAhead: time.Minute, MaxBehind: time.Hour},
		RetryMin: time.Millisecond, RetryMax: time.Millisecond,
	})
	require.NoError(t, err)
	done := make(chan error, n)
	for i := range n {
		c := &chain.Chunk{ID: fmt.Sprint(i), Tag: "t", Streams: []chain.Labels{{Source: "t"}}, JSON: []byte(`{"message":"x"}`)}
		c.Records, c.Digest = []chain.Record{{Time: time.Now().UnixNano(), To: len(c.JSON)}}, sha256.Sum256([]byte(c.ID))
		require.NoError(t, w.Submit(t.Context(), c, func(err error) { done <- err }))
	}
	w.Close()
	require.NoError(t, w.Run(t.Context()))
	for range n {
		require.NoError(t, <-done)
	}
	require.Len(t, store.Keys(), n)
	return store
}

func says(n uint64) func(context.Context) (map[string]uint64, error) {
	return func(context.Context) (map[string]uint64, error) { return map[string]uint64{tenant: n}, nil }
}

func run(t *testing.T, o Options) (verify.Document, Data) {
	t.Helper()
	if o.Tenants == nil {
		o.Tenants = []string{tenant}
	}
	d, err := Run(t.Context(), verify.Subject{Site: "umea"}, o)
	require.NoError(t, err)
	var data Data
	require.NoError(t, json.Unmarshal(d.Data, &data))
	return d, data
}

func TestChains(t *testing.T) {
	t.Parallel()
	whole := written(t, 5)
	_, first := run(t, Options{Archive: whole.Clone(), Sequences: says(5)})
	end := first.Ends[tenant]
	require.EqualValues(t, 5, end.Sequence)
	key := func(n uint64) string { return chain.Key(tenant, n) }
	for name, c := range map[string]struct {
		harm    func(*chaintest.Store)
		opt     Options
		want    verify.Verdict
		saying  string
		wantEnd uint64
	}{
		"whole":                      {want: verify.Pass, wantEnd: 5},
		"whole, known":               {opt: Options{Known: first.Ends}, want: verify.Pass, wantEnd: 5},
		"grown since":                {opt: Options{Known: map[string]chain.Point{tenant: pointAt(t, whole, 3)}}, want: verify.Pass, wantEnd: 5},
		"cut at its end, known":      {harm: func(s *chaintest.Store) { s.Remove(key(5)) }, opt: Options{Known: first.Ends, Sequences: says(4)}, want: verify.Fail, saying: "truncated", wantEnd: 5},
		"cut at its end, never seen": {harm: func(s *chaintest.Store) { s.Remove(key(5)) }, want: verify.Fail, saying: "wrote up to number 5, the store ends at 4: 1 objects are missing", wantEnd: 4},
		"an object is gone":          {harm: func(s *chaintest.Store) { s.Remove(key(2)) }, want: verify.Fail, saying: "gap", wantEnd: 0},
		"a byte is changed":          {harm: func(s *chaintest.Store) { s.Replace(key(2), func(o *chaintest.Object) { o.Body[len(o.Body)/2] ^= 1 }) }, want: verify.Fail, saying: "number 2"},
		"a lock is gone":             {harm: func(s *chaintest.Store) { s.Replace(key(2), func(o *chaintest.Object) { o.Info.Mode = "" }) }, want: verify.Fail, saying: "unlocked at number 2"},
		"a lock is too short":        {opt: Options{MinRetention: 72 * time.Hour}, want: verify.Fail, saying: "expected at least 72h"},
		"removed after retention":    {harm: func(s *chaintest.Store) { s.Remove(key(1)); s.Remove(key(2)) }, opt: Options{Begin: 3}, want: verify.Pass, wantEnd: 5},
		"the gateway is silent": {opt: Options{Sequences: func(context.Context) (map[string]uint64, error) { return nil, errors.New("refused") }},
			want: verify.Unjudged, saying: "could not be asked where the chains end", wantEnd: 5},
		"the gateway knows no such tenant": {opt: Options{Sequences: func(context.Context) (map[string]uint64, error) { return map[string]uint64{}, nil }},
			want: verify.Unjudged, saying: "knows no chain", wantEnd: 5},
		"the gateway is behind":       {opt: Options{Sequences: says(4)}, want: verify.Pass, wantEnd: 5}, // it was asked first
		"nothing there, nothing said": {harm: removeAll, opt: Options{Sequences: says(0)}, want: verify.Unjudged, saying: "nothing was verified"},
		"nothing there, much said":    {harm: removeAll, want: verify.Fail, saying: "5 objects are missing"},
		"no tenant":                   {opt: Options{Tenants: []string{}}, want: verify.Unjudged, saying: "none to verify"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := whole.Clone()
			if c.harm != nil {
				c.harm(s)
			}
			c.opt.Archive = s
			if c.opt.Sequences == nil {
				c.opt.Sequences = says(5)
			}
			d, data := run(t, c.opt)
			assert.Equal(t, c.want, d.Verdict, "%v", d.Findings)
			assert.Contains(t, fmt.Sprint(d.Findings), c.saying)
			assert.Equal(t, c.wantEnd, data.Ends[tenant].Sequence, "what the next verification begins with")
		})
	}
}

func removeAll(s *chaintest.Store) {
	for _, k := range s.Keys() {
		s.Remove(k)
	}
}

func pointAt(t *testing.T, s *chaintest.Store, n uint64) chain.Point {
	t.Helper()
	body, err := s.Get(t.Context(), chain.Key(tenant, n), 0)
	require.NoError(t, err)
	return chain.Point{Sequence: n, SHA256: fmt.Sprintf("%x", sha256.Sum256(body))}
}

// dead answers nothing.
type dead struct{ chain.Archive }

func (dead) Versions(context.Context, string) iter.Seq2[chain.Version, error] {
	return func(yield func(chain.Version, error) bool) { yield(chain.Version{}, errors.New("no answer")) }
}

func TestAStoreThatDoesNotAnswerProvesNothing(t *testing.T) {
	t.Parallel()
	known := map[string]chain.Point{tenant: {Sequence: 7, SHA256: "ab"}}
	d, data := run(t, Options{Archive: dead{}, Sequences: says(7), Known: known})
	assert.Equal(t, verify.Unjudged, d.Verdict)
	assert.Contains(t, fmt.Sprint(d.Findings), "no answer")
	assert.Equal(t, known, data.Ends, "what was known is not forgotten")
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var objects, bytes int64
	_, data := run(t, Options{Archive: written(t, 4), Sequences: says(4), Progress: func(_ string, o, b int64) { objects, bytes = o, b }})
	assert.EqualValues(t, 4, objects)
	assert.Equal(t, data.Reports[0].Bytes, bytes)
}
