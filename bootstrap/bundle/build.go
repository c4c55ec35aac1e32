package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	remotetransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
)

// BuildOptions say how Build works.
type BuildOptions struct {
	Out string // as for Create
	// Lock is the path of the lock file; empty: nothing is pinned or recorded.
	Lock string
	// Cache keeps downloads between builds. Default: a folder of the user's.
	Cache string
	// PlainHTTP allows servers other than this machine without TLS.
	PlainHTTP bool
	// Parallel is how many things are fetched at once. Default 4.
	Parallel int
	// Attempts without progress before a server is given up, and Pause after the first, doubled each time. Default 5, 1 s.
	Attempts int
	Pause    time.Duration
	// Stall is how long a server may stay silent. Default 1 minute.
	Stall time.Duration
	// Progress, which may be nil, is called by one goroutine at a time: about twice a second, and after each item.
	Progress func(BuildProgress)
}

// BuildProgress is how far a build is.
type BuildProgress struct {
	// Item is what has just ended, with its error; empty between.
	Item string
	Err  error
	// Done of Items are in the bundle.
	Done, Items int
	Received    int64 // bytes from servers
}

// mostFailures ends a build that fails everywhere, as without a network.
const mostFailures = 8

// Build makes a bundle from a specification. All failures are returned at once; then nothing is left but the cache.
func Build(ctx context.Context, s Specification, o BuildOptions) (Manifest, error) {
	if err := s.Check(); err != nil {
		return Manifest{}, err
	}
	o, err := o.defaults()
	if err != nil {
		return Manifest{}, err
	}
	lock := &Lock{}
	if o.Lock != "" {
		if lock, err = ReadLock(o.Lock, s.Arch); err != nil {
			return Manifest{}, err
		}
	}
	b, err := newBuilder(s, o, lock)
	if err != nil {
		return Manifest{}, err
	}
	w, err := Create(o.Out, Manifest{Arch: s.Arch, Kubernetes: s.Kubernetes})
	if err != nil {
		return Manifest{}, err
	}
	b.w = w
	defer b.idle()
	if err := b.run(ctx); err != nil {
		return Manifest{}, errors.Join(err, w.Abort())
	}
	m, err := w.Close()
	if err == nil && o.Lock != "" {
		err = lock.write(o.Lock)
	}
	return m, err
}

func (o BuildOptions) defaults() (BuildOptions, error) {
	if o.Cache == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("no folder for downloads, name one with --cache: %w", err)
		}
		o.Cache = filepath.Join(home, "catamaran", "downloads")
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.Attempts == 0 {
		o.Attempts = 5
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	if o.Stall == 0 {
		o.Stall = time.Minute
	}
	return o, nil
}

type builder struct {
	spec      Specification
	o         BuildOptions
	lock      *Lock
	w         *Writer
	transport *transport
	fetch     *fetcher
	puller    *remote.Puller
	idle      func() // closes kept connections

	failures atomic.Int32
	mu       sync.Mutex // of Progress
	done     int
}

func newBuilder(s Specification, o BuildOptions, lock *Lock) (*builder, error) {
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the program's HTTP transport was replaced")
	}
	base = base.Clone()
	base.ResponseHeaderTimeout = o.Stall
	base.MaxIdleConnsPerHost = o.Parallel
	t := &transport{next: base, plainHTTP: o.PlainHTTP, attempts: o.Attempts, pause: o.Pause, stall: o.Stall}
	puller, err := remote.NewPuller(
		remote.WithTransport(t), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithJobs(o.Parallel),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), // the transport does it
	)
	if err != nil {
		return nil, err
	}
	return &builder{
		spec: s, o: o, lock: lock, transport: t, puller: puller, idle: base.CloseIdleConnections,
		fetch: &fetcher{client: &http.Client{Transport: t}, cache: o.Cache, mirrors: s.Mirrors},
	}, nil
}

// item is one thing to put into the bundle.
type item struct {
	name string
	add  func(ctx context.Context) error
}

func (b *builder) items() []item {
	var out []item
	for _, s := range b.spec.Images { // the larger part first
		out = append(out, item{"image " + s.Ref, func(ctx context.Context) error { return b.image(ctx, s) }})
	}
	for _, s := range b.spec.Files {
		out = append(out, item{"file " + s.Name, func(ctx context.Context) error { return b.file(ctx, s, 0o755, b.w.AddFile) }})
	}
	for _, s := range b.spec.Charts {
		out = append(out, item{"chart " + s.Name, func(ctx context.Context) error { return b.file(ctx, s, 0o644, b.w.AddChart) }})
	}
	return out
}

func (b *builder) run(ctx context.Context) error {
	defer b.ticking()()
	items := b.items()
	problems := make([]error, len(items))
	var g errgroup.Group
	g.SetLimit(b.o.Parallel)
	for i, it := range items {
		g.Go(func() error {
			if b.hopeless(ctx) {
				return nil
			}
			if problems[i] = b.patiently(ctx, it); problems[i] != nil {
				b.failures.Add(1)
			}
			b.report(it.name, problems[i])
			return nil
		})
	}
	_ = g.Wait() // problems holds them all
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(problems...)
}

// hopeless says that nothing more should be begun.
func (b *builder) hopeless(ctx context.Context) bool {
	return ctx.Err() != nil || b.failures.Load() >= mostFailures
}

// patiently tries an item again whose download could not be resumed: a registry's token may have expired meanwhile, and
// what is in place already is not fetched again.
func (b *builder) patiently(ctx context.Context, it item) error {
	for n := 1; ; n++ {
		err := it.add(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errGaveUp) || n == 2 || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", it.name, err)
		}
	}
}

// ticking reports until it is stopped.
func (b *builder) ticking() (stop func()) {
	if b.o.Progress == nil {
		return func() {}
	}
	ticker, end, ended := time.NewTicker(500*time.Millisecond), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				b.report("", nil)
			}
		}
	}()
	return func() { ticker.Stop(); close(end); <-ended }
}

func (b *builder) report(item string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if item != "" && err == nil {
		b.done++
	}
	if b.o.Progress != nil {
		b.o.Progress(BuildProgress{
			Item: item, Err: err, Done: b.done, Received: b.transport.received.Load(),
			Items: len(b.spec.Images) + len(b.spec.Files) + len(b.spec.Charts),
		})
	}
}

func (b *builder) file(ctx context.Context, s Source, mode uint32, add func(File, func() (io.ReadCloser, error)) error) error {
	at, member := s.location()
	where, sum, err := b.bring(ctx, s, at)
	if err != nil {
		return err
	}
	f := File{Name: s.Name, Version: s.Version, Mode: mode, Source: s.URL}
	if _, ok := local(at); ok {
		f.Source = "" // a path of the building machine means nothing elsewhere
	}
	if member == "" {
		f.Digest = "sha256:" + sum
	}
	return add(f, func() (io.ReadCloser, error) { return openMember(where, member) })
}

// bring makes the file of a source lie on this machine, with its digest checked. sum is its sha256 in hexadecimal.
func (b *builder) bring(ctx context.Context, s Source, at string) (where, sum string, err error) {
	if where, ok := local(at); ok {
		got, err := hashFile(where)
		if err == nil && s.SHA256 != "" && got != s.SHA256 {
			err = fmt.Errorf("%s has sha256 %s, expected %s: %w", where, got, s.SHA256, errDigest)
		}
		return where, got, err
	}
	sum, locked := b.lock.file(at)
	switch {
	case s.SHA256 != Upstream && locked && sum != s.SHA256:
		return "", "", fmt.Errorf("the specification wants sha256 %s of %s, the lock file has %s: remove it there", s.SHA256, at, sum)
	case s.SHA256 != Upstream:
		sum = s.SHA256
	case !locked:
		if sum, err = b.fetch.sum(ctx, at, s.Sums); err != nil {
			return "", "", err
		}
	}
	if where, err = b.fetch.get(ctx, at, sum); err == nil {
		b.lock.learnFile(at, sum)
	}
	return where, sum, err
}

func (b *builder) image(ctx context.Context, s ImageSource) error {
	img, err := b.pull(ctx, s)
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	if err := b.w.addImage(s.Ref, img); err != nil {
		return err
	}
	b.lock.learnImage(s, digest.String())
	return nil
}

// pull asks for an image by the digest that is locked or specified, else by its reference.
func (b *builder) pull(ctx context.Context, s ImageSource) (v1.Image, error) {
	var opts []name.Option
	if b.o.PlainHTTP {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.ParseReference(s.Ref, append(opts, name.StrictValidation)...)
	if err != nil {
		return nil, err
	}
	repository, err := b.spec.Mirrors.repository(ref.Context(), opts...)
	if err != nil {
		return nil, err
	}
	digest, ok := b.lock.image(s)
	if !ok {
		digest = s.Digest
	}
	var at name.Reference = repository.Tag(ref.Identifier())
	if d, ok := ref.(name.Digest); ok {
		at = repository.Digest(d.DigestStr())
	}
	if digest != "" {
		at = repository.Digest(digest)
	}
	img, err := remote.Image(at, remote.WithContext(ctx), remote.Reuse(b.puller),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: b.spec.Arch}))
	var answer *remotetransport.Error
	switch {
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return nil, fmt.Errorf("from %s: %w; sign in with `docker login %s`", at, err, repository.RegistryStr())
	case err != nil:
		return nil, fmt.Errorf("from %s: %w", at, err)
	}
	return img, nil
}
