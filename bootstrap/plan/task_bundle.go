package plan

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

// blobStore is where pushed blobs wait on a machine until they are installed or imported. What is there whole is
// never sent again.
const blobStore = "/var/lib/catamaran/blobs/sha256"

// streams bounds how many blobs travel to one machine at once: enough to hide the round trips between small ones.
const streams = 3

// Blob is one piece of the bundle that a machine lacks.
type Blob struct {
	Digest string
	Size   int64 // bytes
}

// push sends blobs into the machine's blob store, all over its one connection.
func push(ctx context.Context, env Env, node string, blobs []Blob, log func(string)) error {
	blobs, err := absent(ctx, env.Host(node), blobs)
	if err != nil || len(blobs) == 0 {
		return err
	}
	var total int64
	for _, b := range blobs {
		total += b.Size
	}
	log(fmt.Sprintf("sending %d blobs, %s", len(blobs), bytesWord(total)))
	progress := &tenths{total: total, log: log}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(streams)
	for _, b := range blobs {
		g.Go(func() error {
			content, size, err := env.Bundle().Content(b.Digest)
			if err != nil {
				return err
			}
			defer content.Close() //nolint:errcheck // only read
			var last int64
			return env.Host(node).Copy(ctx, remote.File{
				Content: content, Size: size, Path: blobPath(b.Digest), Mode: 0o600, Root: true,
				Progress: func(sent int64) { progress.add(sent - last); last = sent },
			})
		})
	}
	return g.Wait()
}

// absent asks again what the store lacks: an attempt before this one may have sent some.
func absent(ctx context.Context, r remote.Runner, blobs []Blob) ([]Blob, error) {
	if len(blobs) == 0 {
		return nil, nil
	}
	res, err := r.Run(ctx, remote.Command{Script: "ls " + blobStore + " 2>/dev/null || true", Root: true})
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, l := range splitLines(string(res.Stdout)) {
		there["sha256:"+l] = true
	}
	var out []Blob
	for _, b := range blobs {
		if !there[b.Digest] {
			out = append(out, b)
		}
	}
	return out, nil
}

func blobPath(digest string) string { return blobStore + "/" + strings.TrimPrefix(digest, "sha256:") }

// tenths logs each tenth of a transfer that is done.
type tenths struct {
	total int64
	sent  atomic.Int64
	log   func(string)
}

func (t *tenths) add(n int64) {
	now := t.sent.Add(n)
	if t.total > 0 && now*10/t.total > (now-n)*10/t.total {
		t.log(fmt.Sprintf("sent %d %%", now*100/t.total))
	}
}

// Program is a program of the bundle and its place on the machine.
type Program struct {
	Name, Version, Path, Digest string
	Size                        int64
}

// InstallPrograms places programs of the bundle on a machine.
type InstallPrograms struct {
	Node     string
	Programs []Program
	// Push are the blobs that the machine's store lacks.
	Push []Blob
	// Restart are running units whose program changes.
	Restart []string
}

func (t InstallPrograms) size() int64 { return sizeOf(t.Push) }

func sizeOf(blobs []Blob) int64 {
	var n int64
	for _, b := range blobs {
		n += b.Size
	}
	return n
}

// Do implements Task.
func (t InstallPrograms) Do(ctx context.Context, env Env, log func(string)) error {
	if err := push(ctx, env, t.Node, t.Push, log); err != nil {
		return err
	}
	return runUnit(ctx, env, t.Node, "programs", t.script(), nil, log)
}

// script links each program out of the blob store, and records what was installed with its size and time: that is how
// a later look knows it without reading it again.
func (t InstallPrograms) script() string {
	var b strings.Builder
	b.WriteString(`set -eu
umask 022
record=/var/lib/catamaran/programs
touch "$record"
cp "$record" "$record.new"
place() {
  dir="${2%/*}" beside="${2%/*}/.${2##*/}.new"
  mkdir -p "$dir"
  rm -f "$beside"
  ln "$1" "$beside" 2>/dev/null || cp "$1" "$beside"
  chown root:root "$beside"
  chmod 0755 "$beside"
  mv -f "$beside" "$2"
  awk -F '\t' -v p="$2" '$1 != p' "$record.new" > "$record.next"
  printf '%s\t%s\t%s\t%s\t%s\n' "$2" "$3" "$(stat -c '%s	%Y' "$2")" "$4" "$5" >> "$record.next"
  mv -f "$record.next" "$record.new"
}
`)
	for _, p := range t.Programs {
		fmt.Fprintf(&b, "place %s %s %s %s %s\n", blobPath(p.Digest), p.Path, strings.TrimPrefix(p.Digest, "sha256:"), p.Name, p.Version)
	}
	b.WriteString("sync\nmv -f \"$record.new\" \"$record\"\n")
	for _, p := range t.Programs {
		fmt.Fprintf(&b, "rm -f %s\n", blobPath(p.Digest))
	}
	for _, u := range t.Restart {
		fmt.Fprintf(&b, "systemctl daemon-reload\nsystemctl restart %s\n", u)
	}
	return b.String()
}

// ImportImages brings images of the bundle into a machine's containerd.
type ImportImages struct {
	Node   string
	Images []bundle.Image
	// Push are the blobs that neither the machine's store nor its containerd holds.
	Push []Blob
}

func (t ImportImages) size() int64 { return sizeOf(t.Push) }

// Do implements Task.
func (t ImportImages) Do(ctx context.Context, env Env, log func(string)) error {
	if err := push(ctx, env, t.Node, t.Push, log); err != nil {
		return err
	}
	index, err := t.index(env.Bundle())
	if err != nil {
		return err
	}
	return runUnit(ctx, env, t.Node, "images", t.script(), map[string][]byte{"index.json": index}, log)
}

// index is that of an OCI image layout; containerd takes an image's name from the annotation.
func (t ImportImages) index(b *bundle.Bundle) ([]byte, error) {
	idx := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, img := range t.Images {
		h, err := v1.NewHash(img.Digest)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", img.Ref, err)
		}
		blob, ok := b.Blob(img.Digest)
		if !ok {
			return nil, fmt.Errorf("image %s: the bundle has no blob %s: it is damaged", img.Ref, img.Digest)
		}
		media, err := mediaType(b, img.Digest)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", img.Ref, err)
		}
		idx.Manifests = append(idx.Manifests, v1.Descriptor{
			MediaType: media, Size: blob.Size, Digest: h,
			Annotations: map[string]string{"io.containerd.image.name": img.Ref},
		})
	}
	return json.Marshal(idx)
}

// mediaType reads what kind of manifest a blob is.
func mediaType(b *bundle.Bundle, digest string) (types.MediaType, error) {
	content, _, err := b.Content(digest)
	if err != nil {
		return "", err
	}
	defer content.Close() //nolint:errcheck // only read
	m, err := v1.ParseManifest(content)
	if err != nil {
		return "", err
	}
	if m.MediaType == "" {
		return types.OCIManifestSchema1, nil
	}
	return m.MediaType, nil
}

// script streams an image layout into containerd. Blobs that containerd holds already are left out: it finds them in
// its own store. The images are pinned (containerd's CRI label): a kubelet that runs short of disk would else delete those
// that run no container at that moment, such as an API server's that restarts, and a closed site can not pull them again.
// The check at the end compares each image's digest and pin.
func (t ImportImages) script() string {
	var b strings.Builder
	fmt.Fprintf(&b, `set -eu
store=%s
mkdir -p "$store"
layout="$(mktemp -d /var/lib/catamaran/layout.XXXXXX)"
trap 'rm -rf "$layout"' EXIT
mkdir -p "$layout/blobs/sha256"
printf '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
cp "$UNIT_DIR/index.json" "$layout/index.json"
for d in`, blobStore)
	var all []string
	for _, img := range t.Images {
		all = append(all, img.Blobs...)
	}
	all = without(all, nil)
	for _, d := range all {
		b.WriteString(" " + strings.TrimPrefix(d, "sha256:"))
	}
	b.WriteString(`; do
  if [ -e "$store/$d" ]; then ln "$store/$d" "$layout/blobs/sha256/$d"; fi
done
tar -c -C "$layout" -f - . | ctr -n k8s.io images import --local --no-unpack=false --label ` + host.PinnedLabel + ` - >&2
have="$(ctr -n k8s.io images ls)"
check() { printf '%s\n' "$have" | grep -F "$1 " | grep -F "$2" | grep -qF ` + host.PinnedLabel + ` || { echo "image $1 is not there, or not pinned, after the import"; exit 1; }; }
`)
	for _, img := range t.Images {
		fmt.Fprintf(&b, "check %s %s\n", img.Ref, img.Digest)
	}
	for _, d := range all {
		fmt.Fprintf(&b, "rm -f \"$store/%s\"\n", strings.TrimPrefix(d, "sha256:"))
	}
	return b.String()
}
