package chain_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain/chaintest"
)

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	whole := &chaintest.Store{}
	w, kill := start(t, options(whole, &chaintest.Sink{}))
	for i := range 6 {
		require.NoError(t, send(t, w, chunk(fmt.Sprint(i), "x")))
	}
	kill()
	point := verify(t, whole).Last
	key := func(n uint64) string { return chain.Key(tenant, n) }
	body := func(n uint64) []byte {
		b, err := whole.Get(t.Context(), key(n), 0)
		require.NoError(t, err)
		return b
	}
	for name, c := range map[string]struct {
		harm func(*chaintest.Store)
		opt  chain.VerifyOptions
		want []string // kind and number
	}{
		"nothing":                 {harm: func(*chaintest.Store) {}, opt: chain.VerifyOptions{Known: &point}},
		"an object is gone":       {harm: func(s *chaintest.Store) { s.Remove(key(3)) }, want: []string{"gap 3"}},
		"the first ones are gone": {harm: func(s *chaintest.Store) { s.Remove(key(1)); s.Remove(key(2)) }, want: []string{"gap 1"}},
		"expired ones are gone":   {harm: func(s *chaintest.Store) { s.Remove(key(1)); s.Remove(key(2)) }, opt: chain.VerifyOptions{Begin: 3}},
		"more than expired":       {harm: func(s *chaintest.Store) { s.Remove(key(1)); s.Remove(key(2)) }, opt: chain.VerifyOptions{Begin: 2}, want: []string{"gap 2"}},
		"the last is gone":        {harm: func(s *chaintest.Store) { s.Remove(key(6)) }, opt: chain.VerifyOptions{Known: &point}, want: []string{"truncated 6"}},
		"the last is another": {harm: func(s *chaintest.Store) {
			s.Replace(key(6), func(o *chaintest.Object) { o.Body = recompress(t, o.Body) })
		}, opt: chain.VerifyOptions{Known: &point}, want: []string{"truncated 6"}},
		"an object is another": {harm: func(s *chaintest.Store) {
			s.Replace(key(3), func(o *chaintest.Object) { o.Body = recompress(t, o.Body) })
		}, want: []string{"changed 3"}},
		"a byte is changed":        {harm: func(s *chaintest.Store) { s.Replace(key(3), func(o *chaintest.Object) { o.Body[len(o.Body)-9] ^= 1 }) }, want: []string{"unreadable 3"}},
		"two are swapped":          {harm: func(s *chaintest.Store) { swap(s, key(3), key(4), body(3), body(4)) }, want: []string{"misplaced 3", "misplaced 4", "changed 4"}},
		"no lock":                  {harm: func(s *chaintest.Store) { s.Replace(key(2), func(o *chaintest.Object) { o.Info = chain.Info{} }) }, want: []string{"unlocked 2"}},
		"a weak lock":              {harm: func(s *chaintest.Store) { s.Replace(key(2), func(o *chaintest.Object) { o.Info.Mode = "GOVERNANCE" }) }, want: []string{"unlocked 2"}},
		"a shorter lock":           {harm: func(s *chaintest.Store) { s.Replace(key(2), shorten) }, want: []string{"unlocked 2"}},
		"less than must be":        {harm: func(*chaintest.Store) {}, opt: chain.VerifyOptions{MinRetention: 48 * time.Hour}, want: []string{"unlocked 1", "unlocked 2", "unlocked 3", "unlocked 4", "unlocked 5", "unlocked 6"}},
		"written again, the same":  {harm: func(s *chaintest.Store) { s.Add(key(2), chaintest.Object{Body: body(2)}) }},
		"written again, different": {harm: func(s *chaintest.Store) { s.Add(key(2), chaintest.Object{Body: []byte("else")}) }, want: []string{"rewritten 2"}},
		"hidden by a marker":       {harm: func(s *chaintest.Store) { s.Add(key(2), chaintest.Object{Deleted: true}) }, want: []string{"hidden 2"}},
		"another name":             {harm: func(s *chaintest.Store) { s.Add("umea/note", chaintest.Object{}) }, want: []string{"foreign 0"}},
		"nothing is left": {harm: func(s *chaintest.Store) {
			for n := uint64(1); n <= 6; n++ {
				s.Remove(key(n))
			}
		}, opt: chain.VerifyOptions{Known: &point}, want: []string{"truncated 6"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := whole.Clone()
			c.harm(s)
			c.opt.Tenant = tenant
			r, err := chain.Verify(t.Context(), s, c.opt)
			require.NoError(t, err)
			var got []string
			for _, f := range r.Findings {
				got = append(got, fmt.Sprintf("%s %d", f.Kind, f.Sequence))
			}
			assert.Equal(t, c.want, got, "%v", r.Findings)
			assert.Equal(t, len(c.want) == 0, r.OK())
		})
	}
}

func TestVerifyFindsAChunkThatIsStoredTwice(t *testing.T) {
	t.Parallel()
	store := &chaintest.Store{}
	opt := options(store, &chaintest.Sink{})
	opt.RecentObjects, opt.RecentChunks = 1, 1
	w, kill := start(t, opt)
	require.NoError(t, send(t, w, chunk("a", "x")))
	again := chunk("a", "x")
	require.NoError(t, send(t, w, chunk("b", "x"))) // forgets a
	require.NoError(t, send(t, w, again))
	kill()
	findings := verify(t, store).Findings
	require.Len(t, findings, 1)
	assert.Equal(t, chain.DuplicateChunk, findings[0].Kind)
	assert.EqualValues(t, 3, findings[0].Sequence)
}

// recompress makes other bytes with the same content, and so another hash.
func recompress(t *testing.T, body []byte) []byte {
	t.Helper()
	dec, err := zstd.NewReader(nil)
	require.NoError(t, err)
	defer dec.Close()
	plain, err := dec.DecodeAll(body, nil)
	require.NoError(t, err)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	require.NoError(t, err)
	return enc.EncodeAll(plain, nil)
}

func swap(s *chaintest.Store, a, b string, bodyA, bodyB []byte) {
	s.Replace(a, func(o *chaintest.Object) { o.Body = bodyB })
	s.Replace(b, func(o *chaintest.Object) { o.Body = bodyA })
}

func shorten(o *chaintest.Object) { o.Info.RetainUntil = o.Info.RetainUntil.Add(-time.Hour) }
