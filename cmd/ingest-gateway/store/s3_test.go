package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/buckets"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain/chaintest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store/s3test"
)

func client(t *testing.T, s *s3test.S3, endpoint string, timeout time.Duration) *store.S3 {
	t.Helper()
	c, err := store.New(store.Options{Endpoint: endpoint, Region: "us-east-1", Bucket: s3test.Bucket,
		AccessFile: s.Access, SecretFile: s.Secret, Dial: s.Dial, Timeout: timeout})
	require.NoError(t, err)
	return c
}

// All of this is against one real versitygw.
func TestS3(t *testing.T) {
	t.Parallel()
	ca := certstest.New(t, "ca")
	s3 := s3test.Start(t, ca)
	t.Run("objects", func(t *testing.T) { t.Parallel(); objects(t, s3) })
	t.Run("listing", func(t *testing.T) { t.Parallel(); listing(t, s3) })
	t.Run("locked", func(t *testing.T) { t.Parallel(); locked(t, s3) })
	t.Run("a chain under faults", func(t *testing.T) { t.Parallel(); faults(t, s3, ca) })
	t.Run("down and up", func(t *testing.T) { t.Parallel(); downAndUp(t, s3, ca) })
	t.Run("keys that change", func(t *testing.T) { t.Parallel(); wrongKeys(t, s3) })
	t.Run("buckets again", func(t *testing.T) { t.Parallel(); bucketsAgain(t, s3) })
}

func objects(t *testing.T, s3 *s3test.S3) {
	ctx, c := t.Context(), client(t, s3, s3.Endpoint, 0)
	until := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	require.NoError(t, c.Put(ctx, "o/1", []byte("first body"), until))
	require.ErrorIs(t, c.Put(ctx, "o/1", []byte("another"), until), chain.ErrExists)
	info, err := c.Head(ctx, "o/1")
	require.NoError(t, err)
	assert.Equal(t, chain.ModeCompliance, info.Mode)
	assert.WithinDuration(t, until, info.RetainUntil, 0)
	assert.EqualValues(t, 10, info.Size)
	body, err := c.Get(ctx, "o/1", 0)
	require.NoError(t, err)
	assert.Equal(t, "first body", string(body))
	body, err = c.Get(ctx, "o/1", 5)
	require.NoError(t, err)
	assert.Equal(t, "first", string(body))
	_, err = c.Get(ctx, "o/2", 0)
	require.ErrorIs(t, err, chain.ErrNotFound)
	_, err = c.Head(ctx, "o/2")
	require.ErrorIs(t, err, chain.ErrNotFound)
}

func listing(t *testing.T, s3 *s3test.S3) {
	ctx, c := t.Context(), client(t, s3, s3.Endpoint, 0)
	until := time.Now().Add(48 * time.Hour)
	keys := []string{chain.Key("list", 1), chain.Key("list", 2), chain.Key("list", 9999), chain.Key("list", 10000), chain.Key("list", 10001)}
	for _, k := range append(keys, chain.Key("lis", 5), chain.Key("listing", 5)) {
		require.NoError(t, c.Put(ctx, k, []byte(k), until))
	}
	var got []string
	for after := ""; ; {
		key, err := c.After(ctx, chain.Prefix("list"), after)
		require.NoError(t, err)
		if key == "" {
			break
		}
		got, after = append(got, key), key
	}
	assert.Equal(t, keys, got)
	key, err := c.After(ctx, chain.Prefix("list"), chain.Key("list", 500))
	require.NoError(t, err)
	assert.Equal(t, chain.Key("list", 9999), key)
	got = nil
	for v, err := range c.Versions(ctx, chain.Prefix("list")) {
		require.NoError(t, err)
		body, info, err := c.Object(ctx, v.Key, v.ID)
		require.NoError(t, err)
		assert.Equal(t, v.Key, string(body))
		assert.Equal(t, chain.ModeCompliance, info.Mode)
		got = append(got, v.Key)
	}
	assert.Equal(t, keys, got)
}

// What the gateway holds is not enough to remove or weaken what it wrote, nor is what the administrator holds.
func locked(t *testing.T, s3 *s3test.S3) {
	ctx, c := t.Context(), client(t, s3, s3.Endpoint, 0)
	until := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	require.NoError(t, c.Put(ctx, "locked/1", []byte("evidence"), until))
	for who, keys := range map[string][2]string{"gateway": {s3.Access, s3.Secret}, "root": {s3.RootAccess, s3.RootSecret}} {
		raw, err := store.Client(s3.Endpoint, "us-east-1", store.Files(keys[0], keys[1]), s3.Dial)
		require.NoError(t, err)
		var version string
		for v, err := range c.Versions(ctx, "locked/1") {
			require.NoError(t, err)
			version = v.ID
		}
		require.NotEmpty(t, version)
		assert.Error(t, raw.RemoveObject(ctx, s3test.Bucket, "locked/1", minio.RemoveObjectOptions{VersionID: version, GovernanceBypass: true}), who)
		sooner, mode := time.Now().Add(time.Hour), minio.Compliance
		assert.Error(t, raw.PutObjectRetention(ctx, s3test.Bucket, "locked/1", minio.PutObjectRetentionOptions{
			VersionID: version, Mode: &mode, RetainUntilDate: &sooner, GovernanceBypass: true}), who)
		body, _, err := c.Object(ctx, "locked/1", version)
		require.NoError(t, err)
		assert.Equal(t, "evidence", string(body), who)
	}
}

func options(tenant string, s chain.Store, sink chain.Sink) chain.Options {
	return chain.Options{
		Tenant: tenant, Store: s, Sink: sink, Retention: 48 * time.Hour, ObjectBytes: 1 << 20, MaxWait: time.Millisecond, BufferBytes: 8 << 20,
		RecentChunks: 1000, RecentObjects: 100, MaxStreams: 10, Timing: chain.Timing{MaxAge: time.Hour, MaxAhead: time.Hour, MaxBehind: time.Hour},
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond,
	}
}

func send(t *testing.T, w *chain.Writer, id string) {
	t.Helper()
	c := &chain.Chunk{ID: id, Tag: "t", Streams: []chain.Labels{{Source: "t"}}, JSON: fmt.Appendf(nil, `{"id":%q}`, id)}
	c.Digest = sha256.Sum256(c.JSON)
	c.Records = []chain.Record{{Time: time.Now().UnixNano(), To: len(c.JSON)}}
	done := make(chan error, 1)
	require.NoError(t, w.Submit(t.Context(), c, func(err error) { done <- err }))
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		require.Fail(t, "not stored within 30 s")
	}
}

func faults(t *testing.T, s3 *s3test.S3, ca *certstest.CA) {
	proxy := s3.NewProxy(t, ca)
	var n atomic.Int64
	seen := map[s3test.Fault]int{}
	proxy.Set(func(r *http.Request) s3test.Fault {
		// Each kind of fault meets each kind of request.
		f := s3test.Pass
		if i := n.Add(1); i%3 == 0 {
			f = []s3test.Fault{s3test.Unavailable, s3test.Lost, s3test.Half, s3test.Cut}[(i/3)%4]
		}
		if r.Method == http.MethodPut {
			seen[f]++
		}
		return f
	})
	sink := &chaintest.Sink{}
	for life := range 3 {
		w, err := chain.New(options("faults", client(t, s3, proxy.Endpoint, 5*time.Second), sink))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.Run(ctx) }()
		for i := range 10 {
			send(t, w, fmt.Sprint(life, i))
		}
		send(t, w, "0 0")
		cancel()
		<-ended
	}
	r, err := chain.Verify(t.Context(), client(t, s3, s3.Endpoint, 0), chain.VerifyOptions{Tenant: "faults", MinRetention: 48 * time.Hour})
	require.NoError(t, err)
	assert.Empty(t, r.Findings)
	assert.EqualValues(t, 30, r.Records, "the first one of all was sent in every life and is there once")
	assert.Len(t, sink.Lines(), 30)
	proxy.Set(nil)
	assert.Len(t, seen, 5, "a put met every kind of fault: %v", seen)
}

func downAndUp(t *testing.T, s3 *s3test.S3, ca *certstest.CA) {
	proxy := s3.NewProxy(t, ca)
	proxy.Set(func(*http.Request) s3test.Fault { return s3test.Cut })
	w, err := chain.New(options("down", client(t, s3, proxy.Endpoint, time.Second), &chaintest.Sink{}))
	require.NoError(t, err)
	go func() { _ = w.Run(t.Context()) }()
	stored := make(chan error, 1)
	c := &chain.Chunk{ID: "a", Streams: []chain.Labels{{}}}
	require.NoError(t, w.Submit(t.Context(), c, func(err error) { stored <- err }))
	select {
	case <-stored:
		require.Fail(t, "acknowledged without a store")
	case <-time.After(300 * time.Millisecond):
	}
	proxy.Set(nil)
	require.NoError(t, <-stored)
}

func wrongKeys(t *testing.T, s3 *s3test.S3) {
	wrong := *s3
	dir := t.TempDir()
	wrong.Secret = dir + "/secret"
	require.NoError(t, os.WriteFile(wrong.Secret, []byte("wrong"), 0o600))
	c := client(t, &wrong, s3.Endpoint, 0)
	err := c.Put(t.Context(), "keys/1", []byte("x"), time.Now().Add(48*time.Hour))
	require.Error(t, err)
	assert.NotErrorIs(t, err, chain.ErrExists)
	assert.NotContains(t, err.Error(), "secret-of-a-test")
	require.NoError(t, os.Remove(wrong.Secret))
	_, err = store.New(store.Options{Endpoint: "http://s3:1", Bucket: "b"})
	require.ErrorContains(t, err, "https://")
}

func bucketsAgain(t *testing.T, s3 *s3test.S3) {
	ctx := t.Context()
	file := s3.File()
	var log strings.Builder
	require.NoError(t, buckets.Ensure(ctx, file, slog.New(slog.NewTextHandler(&log, nil))))
	assert.Empty(t, log.String(), "nothing was left to do")

	weaker := file
	weaker.Buckets = []buckets.Bucket{file.Buckets[0]}
	weaker.Buckets[0].DefaultRetention = &buckets.Retention{Mode: "GOVERNANCE", Days: 1}
	require.NoError(t, buckets.Ensure(ctx, weaker, slog.New(slog.NewTextHandler(&log, nil))))
	assert.Contains(t, log.String(), "left so")

	mixed := file
	for _, r := range []buckets.Retention{{Mode: "GOVERNANCE", Days: 5}, {Mode: "COMPLIANCE", Days: 2}} {
		mixed.Buckets = []buckets.Bucket{{Name: "mixed", ObjectLock: true, DefaultRetention: &r}}
		log.Reset()
		require.NoError(t, buckets.Ensure(ctx, mixed, slog.New(slog.NewTextHandler(&log, nil))))
	}
	assert.Contains(t, log.String(), "mode=COMPLIANCE days=5", "the longer time does not keep the weaker mode")
	log.Reset()
	require.NoError(t, buckets.Ensure(ctx, mixed, slog.New(slog.NewTextHandler(&log, nil))))
	assert.NotContains(t, log.String(), "set", "it stays so")

	plain := file
	plain.Buckets = []buckets.Bucket{{Name: "plain", Versioning: true}}
	require.NoError(t, buckets.Ensure(ctx, plain, slog.New(slog.DiscardHandler)))
	plain.Buckets[0].ObjectLock = true
	require.ErrorContains(t, buckets.Ensure(ctx, plain, slog.New(slog.DiscardHandler)), "without object lock")

	wrong := file
	wrong.SecretFile = s3.Secret
	begin := time.Now()
	require.Error(t, buckets.Ensure(ctx, wrong, slog.New(slog.DiscardHandler)), "a wrong key")
	assert.Less(t, time.Since(begin), 30*time.Second, "is for good: what may pass is waited for without end")

	nobody := file
	nobody.Endpoint = "https://127.0.0.1:1"
	short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	log.Reset()
	require.ErrorContains(t, buckets.Ensure(short, nobody, slog.New(slog.NewTextHandler(&log, nil))), "127.0.0.1:1")
	assert.Contains(t, log.String(), "waiting", "an endpoint that does not answer is waited for")
}
