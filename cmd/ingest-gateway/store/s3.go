// Package store is the object store behind a chain: an S3 bucket with object lock.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// Options say where the bucket is.
type Options struct {
	// Endpoint is https://HOST[:PORT].
	Endpoint string
	Region   string
	Bucket   string
	// AccessFile and SecretFile hold the keys; they are read again when they change.
	AccessFile, SecretFile string
	// Keys are used instead of the files when set.
	Keys *credentials.Credentials
	// Dial opens TLS connections; nil means the system's authorities and no client certificate.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one request, 30 s when 0. What happened to a request that took longer is not known.
	Timeout time.Duration
}

// S3 is a bucket. It implements chain.Store and chain.Archive.
type S3 struct {
	core    minio.Core
	bucket  string
	timeout time.Duration
}

// New makes a client; it does not connect.
func New(opt Options) (*S3, error) {
	if opt.Timeout == 0 {
		opt.Timeout = 30 * time.Second
	}
	keys := opt.Keys
	if keys == nil {
		keys = Files(opt.AccessFile, opt.SecretFile)
	}
	client, err := Client(opt.Endpoint, opt.Region, keys, opt.Dial)
	if err != nil {
		return nil, err
	}
	return &S3{core: minio.Core{Client: client}, bucket: opt.Bucket, timeout: opt.Timeout}, nil
}

// Client makes an S3 client that addresses buckets by path and does not repeat requests by itself: whether a request
// may be repeated is for the caller to know.
func Client(endpoint, region string, keys *credentials.Credentials, dial func(ctx context.Context, network, address string) (net.Conn, error)) (*minio.Client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("S3 endpoint %q: expected https://HOST[:PORT]", endpoint)
	}
	transport := &http.Transport{
		DialTLSContext: dial, MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute,
		// Objects are compressed already, and what is compared must be what is stored.
		DisableCompression: true,
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: keys, Secure: true, Region: region, Transport: transport, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("S3 endpoint %s: %w", endpoint, err)
	}
	return client, nil
}

// Put implements chain.Store.
func (s *S3) Put(ctx context.Context, key string, body []byte, retainUntil time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	opt := minio.PutObjectOptions{
		ContentType: "application/zstd", Mode: minio.Compliance, RetainUntilDate: retainUntil,
		SendContentMd5: true, DisableMultipart: true,
	}
	opt.SetMatchETagExcept("*")
	_, err := s.core.Client.PutObject(ctx, s.bucket, key, bytes.NewReader(body), int64(len(body)), opt)
	return s.wrap("put", key, err)
}

// Head implements chain.Store.
func (s *S3) Head(ctx context.Context, key string) (chain.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	info, err := s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return chain.Info{}, s.wrap("head", key, err)
	}
	return lockOf(info)
}

func lockOf(info minio.ObjectInfo) (chain.Info, error) {
	out := chain.Info{Size: info.Size, Mode: info.Metadata.Get("X-Amz-Object-Lock-Mode")}
	if until := info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"); until != "" {
		var err error
		if out.RetainUntil, err = time.Parse(time.RFC3339, until); err != nil {
			return chain.Info{}, fmt.Errorf("object %s: the end of its lock: %w", info.Key, err)
		}
	}
	return out, nil
}

// Get implements chain.Store.
func (s *S3) Get(ctx context.Context, key string, first int64) ([]byte, error) {
	opt := minio.GetObjectOptions{}
	if first > 0 {
		if err := opt.SetRange(0, first-1); err != nil {
			return nil, err
		}
	}
	body, _, err := s.get(ctx, key, opt)
	return body, err
}

func (s *S3) get(ctx context.Context, key string, opt minio.GetObjectOptions) ([]byte, minio.ObjectInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r, info, _, err := s.core.GetObject(ctx, s.bucket, key, opt)
	if err != nil {
		return nil, info, s.wrap("get", key, err)
	}
	defer func() { _ = r.Close() }()
	body, err := io.ReadAll(r)
	if err != nil {
		return nil, info, s.wrap("get", key, err)
	}
	if int64(len(body)) != info.Size {
		return nil, info, fmt.Errorf("get object %s: %d bytes of %d", key, len(body), info.Size)
	}
	return body, info, nil
}

// After implements chain.Store.
func (s *S3) After(ctx context.Context, prefix, after string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for info := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, StartAfter: after, Recursive: true, MaxKeys: 1}) {
		if info.Err != nil {
			return "", s.wrap("list", prefix, info.Err)
		}
		// Not every store honours start-after.
		if info.Key > after {
			return info.Key, nil
		}
	}
	return "", nil
}

// Versions implements chain.Archive.
func (s *S3) Versions(ctx context.Context, prefix string) iter.Seq2[chain.Version, error] {
	return func(yield func(chain.Version, error) bool) {
		for info := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: true}) {
			if info.Err != nil {
				yield(chain.Version{}, s.wrap("list versions", prefix, info.Err))
				return
			}
			v := chain.Version{Key: info.Key, ID: info.VersionID, ETag: info.ETag, Size: info.Size, Written: info.LastModified, Deleted: info.IsDeleteMarker}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Object implements chain.Archive.
func (s *S3) Object(ctx context.Context, key, version string) ([]byte, chain.Info, error) {
	body, info, err := s.get(ctx, key, minio.GetObjectOptions{VersionID: version})
	if err != nil {
		return nil, chain.Info{}, err
	}
	if info.Metadata.Get("X-Amz-Object-Lock-Mode") == "" {
		// versitygw (v1.8.0) tells of the lock only when asked for nothing else.
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		if info, err = s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{VersionID: version}); err != nil {
			return nil, chain.Info{}, s.wrap("head", key, err)
		}
	}
	lock, err := lockOf(info)
	return body, lock, err
}

// wrap names the object and sorts the two answers that a chain knows.
func (s *S3) wrap(what, key string, err error) error {
	if err == nil {
		return nil
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		switch {
		case answer.StatusCode == http.StatusPreconditionFailed || answer.Code == minio.PreconditionFailed:
			return fmt.Errorf("%s %s/%s: %w", what, s.bucket, key, chain.ErrExists)
		case answer.Code == minio.NoSuchKey:
			return fmt.Errorf("%s %s/%s: %w", what, s.bucket, key, chain.ErrNotFound)
		case answer.StatusCode == http.StatusNotImplemented:
			return fmt.Errorf("%s %s/%s: the store does not know If-None-Match: set s3.conditionalPut: false (%w)", what, s.bucket, key, err)
		}
	}
	return fmt.Errorf("%s %s/%s: %w", what, s.bucket, key, err)
}

// Files makes credentials of two files with one value each.
func Files(access, secret string) *credentials.Credentials {
	return credentials.New(&files{access: access, secret: secret})
}

// keysInterval is how often the files are looked at, at most.
const keysInterval = 10 * time.Second

type files struct {
	access, secret string

	mu   sync.Mutex
	read time.Time
}

func (f *files) Retrieve() (credentials.Value, error) { return f.RetrieveWithCredContext(nil) }

func (f *files) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := credentials.Value{SignerType: credentials.SignatureV4}
	for _, part := range []struct {
		file string
		into *string
	}{{f.access, &v.AccessKeyID}, {f.secret, &v.SecretAccessKey}} {
		b, err := os.ReadFile(filepath.Clean(part.file))
		if err != nil {
			return v, fmt.Errorf("S3 keys: %w", err)
		}
		if *part.into = strings.TrimSpace(string(b)); *part.into == "" {
			return v, fmt.Errorf("S3 keys: %s is empty", part.file)
		}
	}
	f.read = time.Now()
	return v, nil
}

func (f *files) IsExpired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.read) >= keysInterval
}
