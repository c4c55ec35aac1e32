package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func newBundle(g *global) *cobra.Command {
	c := &cobra.Command{Use: "bundle", Short: "Build, verify and list offline bundles"}
	c.AddCommand(newBundleBuild(g), newBundleVerify(g), newBundleList())
	return c
}

// bundleFlags are what `bundle build` is told.
type bundleFlags struct {
	kubernetes, arch, spec        string
	images                        []string
	mirrorFiles, mirrorRegistries string
	show                          bool
	o                             bundle.BuildOptions
}

func newBundleBuild(g *global) *cobra.Command {
	var b bundleFlags
	c := &cobra.Command{
		Use:   "build",
		Short: "Build a bundle from upstream or from mirrors",
		Long: `Build a bundle from upstream download locations and registries, or from mirrors of them.

What goes in follows from a Kubernetes version and an architecture, from an inventory that is given with -f, or from a
specification of the site's own (--spec; --show prints the one that would be used, to begin with). Digests that were
learnt are kept in the lock file, and the next build takes the same again. Sign in to registries with ` + "`docker login`" + `.
HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are heeded.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inv, err := g.named(cmd)
			if err != nil {
				return err
			}
			spec, needs, err := b.specification(cmd.Context(), inv)
			if err != nil {
				return err
			}
			if b.show {
				data, err := yaml.Marshal(spec)
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(data)
				return err
			}
			if b.o.Out == "" && inv != nil {
				b.o.Out = inv.Bundle
			}
			return b.build(cmd, g, spec, needs)
		},
	}
	f := c.Flags()
	f.StringVar(&b.kubernetes, "kubernetes", "", "the Kubernetes version, such as 1.37.2; default: the inventory's")
	f.StringVar(&b.arch, "arch", "amd64", "the machines' architecture: amd64 or arm64")
	f.StringVar(&b.spec, "spec", "", "a specification of the site's own, instead of the built-in one")
	f.BoolVar(&b.show, "show", false, "print the specification and build nothing")
	f.StringSliceVar(&b.images, "image", nil, "one more image, such as those of the site's own releases; can be repeated")
	f.StringVar(&b.o.Out, "out", "", "the bundle to write, a folder if it ends in /; default: the inventory's")
	f.StringVar(&b.o.Lock, "lock", "", "the lock file; default: the bundle's name with .lock behind")
	f.StringVar(&b.o.Cache, "cache", "", "the folder that keeps downloads; default: one of the user's")
	f.StringVar(&b.mirrorFiles, "mirror-files", "", "a URL that mirrors downloads as URL/dl.k8s.io/... and so on")
	f.StringVar(&b.mirrorRegistries, "mirror-registry", "", "a host that mirrors registries as HOST/registry.k8s.io/... and so on")
	f.BoolVar(&b.o.PlainHTTP, "plain-http", false, "allow servers without TLS that are not this machine")
	f.IntVar(&b.o.Parallel, "parallel", 4, "how many things are fetched at once")
	c.MarkFlagsMutuallyExclusive("spec", "kubernetes")
	c.MarkFlagsMutuallyExclusive("spec", "image")
	return c
}

// named reads the inventory if -f was given. The bundle and keys that it names may not exist yet, or not here.
func (g *global) named(cmd *cobra.Command) (*inventory.Inventory, error) {
	if !cmd.Flags().Changed("inventory") {
		return nil, nil
	}
	data, err := os.ReadFile(g.inventory)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	return inventory.Parse(data, g.inventory)
}

func (b *bundleFlags) specification(ctx context.Context, inv *inventory.Inventory) (bundle.Specification, bundle.Needs, error) {
	var needs bundle.Needs
	images, err := lockedImages()
	if inv != nil && err == nil {
		needs, images, err = siteNeeds(ctx, inv, images)
	}
	if err != nil {
		return bundle.Specification{}, needs, err
	}
	if b.spec != "" {
		spec, err := bundle.ReadSpecification(b.spec)
		b.mirror(&spec)
		return spec, needs, err
	}
	switch given := strings.TrimPrefix(b.kubernetes, "v"); {
	case needs.Kubernetes == "" && given == "":
		return bundle.Specification{}, needs, errors.New("say which Kubernetes with --kubernetes, or give an inventory with -f")
	case needs.Kubernetes == "":
		needs.Kubernetes = given
	case given != "" && given != needs.Kubernetes:
		return bundle.Specification{}, needs, fmt.Errorf("--kubernetes says %s, the inventory %s", given, needs.Kubernetes)
	}
	for _, ref := range b.images {
		images = append(images, bundle.ImageSource{Ref: ref})
	}
	spec, err := bundle.Default(needs.Kubernetes, b.arch, images)
	b.mirror(&spec)
	return spec, needs, err
}

// lockedImages are those of all embedded charts.
func lockedImages() ([]bundle.ImageSource, error) {
	lock, err := embedded.Lock()
	if err != nil {
		return nil, err
	}
	out := make([]bundle.ImageSource, len(lock))
	for i, l := range lock {
		out[i] = bundle.ImageSource{Ref: l.Ref, Digest: l.Digest}
	}
	return out, nil
}

// siteNeeds is what an inventory needs, and the images of its releases with the digests of those that are locked. Images
// of the site's own releases are built in, but not needed: nodes may pull them.
func siteNeeds(ctx context.Context, inv *inventory.Inventory, locked []bundle.ImageSource) (bundle.Needs, []bundle.ImageSource, error) {
	needs, err := plan.Needs(inv)
	if err != nil {
		return needs, nil, err
	}
	digests := map[string]string{}
	for _, l := range locked {
		digests[l.Ref] = l.Digest
	}
	var images []bundle.ImageSource
	for _, cluster := range inv.ClusterNames() {
		releases, err := embedded.Releases(ctx, bootstrap.Assumed(inv), cluster)
		if err != nil {
			return needs, nil, err
		}
		for _, r := range releases {
			for _, ref := range r.Images {
				images = append(images, bundle.ImageSource{Ref: ref, Digest: digests[ref]})
			}
			if r.Chart.Embedded != "" {
				needs.Images = append(needs.Images, r.Images...)
			}
		}
	}
	return needs, images, nil
}

// mirror lets the flags win over a specification's own mirrors.
func (b *bundleFlags) mirror(s *bundle.Specification) {
	if b.mirrorFiles != "" || b.mirrorRegistries != "" {
		s.Mirrors = bundle.MirrorAll(b.mirrorFiles, b.mirrorRegistries)
	}
}

func (b *bundleFlags) build(cmd *cobra.Command, g *global, spec bundle.Specification, needs bundle.Needs) error {
	if b.o.Out == "" {
		return errors.New("say where the bundle goes with --out")
	}
	if b.o.Lock == "" {
		b.o.Lock = strings.TrimSuffix(b.o.Out, "/") + ".lock"
	}
	if err := lacks("the specification", spec.Missing(needs)); err != nil {
		return err // before anything is downloaded
	}
	show, end, err := showBuild(g.progress)
	if err != nil {
		return err
	}
	b.o.Progress = show
	m, err := bundle.Build(cmd.Context(), spec, b.o)
	end()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: %d files, %d images, %s\n", b.o.Out, len(m.Files), len(m.Images), size(storedSize(m)))
	return nil
}

// showBuild returns what shows progress, and what ends the showing.
func showBuild(mode string) (show func(bundle.BuildProgress), end func(), err error) {
	end = func() {}
	if mode == "auto" {
		mode = "plain"
		if term.IsTerminal(int(os.Stderr.Fd())) {
			mode = "live"
		}
	}
	line := func(p bundle.BuildProgress) {
		switch {
		case p.Err != nil:
			fmt.Fprintf(os.Stderr, "%3d/%d failed: %v\n", p.Done, p.Items, p.Err)
		case p.Item != "":
			fmt.Fprintf(os.Stderr, "%3d/%d %s\n", p.Done, p.Items, p.Item)
		}
	}
	switch mode {
	case "plain":
		show = line
	case "live":
		began := time.Now()
		show = func(p bundle.BuildProgress) {
			fmt.Fprint(os.Stderr, "\r\x1b[K")
			line(p)
			fmt.Fprintf(os.Stderr, "%3d/%d  %s  %s", p.Done, p.Items, size(p.Received), time.Since(began).Round(time.Second))
		}
		end = func() { fmt.Fprint(os.Stderr, "\r\x1b[K") }
	case "json":
		e := json.NewEncoder(os.Stdout)
		show = func(p bundle.BuildProgress) {
			if p.Item == "" {
				return
			}
			line := struct {
				Item     string `json:"item"`
				Error    string `json:"error,omitempty"`
				Done     int    `json:"done"`
				Items    int    `json:"items"`
				Received int64  `json:"received"`
			}{Item: p.Item, Done: p.Done, Items: p.Items, Received: p.Received}
			if p.Err != nil {
				line.Error = p.Err.Error()
			}
			_ = e.Encode(line) // not worth stopping a build for
		}
	case "none":
		show = func(bundle.BuildProgress) {}
	default:
		err = fmt.Errorf("--progress %s: expected auto, live, plain, json or none", mode)
	}
	return show, end, err
}

func newBundleVerify(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Check every byte of a bundle and, with -f, whether all is inside that the inventory needs",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			inv, err := g.named(cmd)
			if err != nil {
				return err
			}
			b, err := bundle.Open(args[0])
			if err != nil {
				return err
			}
			defer b.Close() //nolint:errcheck // only read
			var needs bundle.Needs
			if inv != nil {
				if needs, _, err = siteNeeds(cmd.Context(), inv, nil); err != nil {
					return err
				}
			}
			began := time.Now()
			if err := errors.Join(b.Verify(cmd.Context(), showVerify(g.progress)), lacks(args[0], b.Manifest.Missing(needs))); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is whole: %d blobs, %s, %s in %s\n", args[0], len(b.Manifest.Blobs),
				size(storedSize(b.Manifest)), b.Digest, time.Since(began).Round(10*time.Millisecond))
			return err
		},
	}
}

// showVerify shows tenths on a terminal.
func showVerify(mode string) func(done, total int64) {
	if mode == "none" || mode == "json" || !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	last := int64(-1)
	return func(done, total int64) {
		if now := done * 100 / max(total, 1); now != last {
			last = now
			fmt.Fprintf(os.Stderr, "\r%3d %%", now)
			if now == 100 {
				fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
		}
	}
}

// lacks turns what is missing into one error.
func lacks(name string, missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%s lacks what the inventory needs:\n  %s", name, strings.Join(missing, "\n  "))
}

func newBundleList() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "list FILE",
		Short: "List what is in a bundle",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := bundle.Open(args[0])
			if err != nil {
				return err
			}
			defer b.Close() //nolint:errcheck // only read
			switch format {
			case "text":
				return listBundle(cmd.OutOrStdout(), b)
			case "json":
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(struct {
					Digest string `json:"digest"`
					bundle.Manifest
				}{b.Digest, b.Manifest})
			}
			return fmt.Errorf("--output %s: expected text or json", format)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// listBundle prints sizes as they are on a node; the last line says what the archive takes.
func listBundle(out io.Writer, b *bundle.Bundle) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } //nolint:errcheck // Flush tells
	row("KIND\tNAME\tVERSION\tSIZE\tDIGEST")
	for _, list := range []struct {
		kind  string
		files []bundle.File
	}{{"file", b.Manifest.Files}, {"chart", b.Manifest.Charts}} {
		for _, f := range list.files {
			row("%s\t%s\t%s\t%s\t%s", list.kind, f.Name, f.Version, size(f.Size), f.Digest)
		}
	}
	for _, i := range b.Manifest.Images {
		var n int64
		for _, d := range i.Blobs {
			x, _ := b.Blob(d)
			n += x.Size
		}
		name, version := splitRef(i.Ref)
		row("image\t%s\t%s\t%s\t%s", name, version, size(n), i.Digest)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nKubernetes %s for %s, %d blobs, %s stored, %s\n", b.Manifest.Kubernetes, b.Manifest.Arch,
		len(b.Manifest.Blobs), size(storedSize(b.Manifest)), b.Digest)
	return err
}

// splitRef separates an image's tag or digest.
func splitRef(ref string) (name, version string) {
	if name, version, ok := strings.Cut(ref, "@"); ok {
		return name, version
	}
	if i := strings.LastIndexByte(path.Base(ref), ':'); i >= 0 {
		i += len(ref) - len(path.Base(ref))
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}

func storedSize(m bundle.Manifest) int64 {
	var n int64
	for _, b := range m.Blobs {
		n += b.StoredSize
	}
	return n
}

// size writes bytes as people read them.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
