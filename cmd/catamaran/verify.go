package main

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

// newVerify holds the checks of a live site. Each ends in a signed document in the site's folder.
func newVerify(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove what is claimed of a live site; exit 0: it holds, 1: it does not, 4: it could not be judged",
	}
	c.AddCommand(newVerifyTamper(g), newVerifySeparation(g), newVerifyCanary(g), newVerifyChain(g), newVerifyDocument(g))
	return c
}

// checked is what every check of a live site begins with.
type checked struct {
	site    *bootstrap.Site
	signer  verify.Signer
	subject verify.Subject
}

func (g *global) check() (*checked, error) {
	s, err := g.open()
	if err != nil {
		return nil, err
	}
	c := &checked{site: s, subject: verify.Subject{Site: s.Inventory.Metadata.Name, Operator: s.Operator, Version: version}}
	if err := c.prepare(); err != nil {
		s.Close()
		return nil, err
	}
	return c, nil
}

func (c *checked) prepare() error {
	key, err := c.site.SigningKey()
	if err != nil {
		return err
	}
	if c.signer, err = verify.NewSigner(key); err != nil {
		return err
	}
	c.subject.Inventory, err = c.site.InventoryDigest()
	return err
}

// finish signs, stores and shows a document, and chooses the exit code by its verdict.
func (c *checked) finish(d verify.Document, format string) error {
	path, err := verify.Write(c.site.Inventory.SiteDir(), d, c.signer)
	if err != nil {
		return err
	}
	if format == "json" {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(data); err != nil {
			return err
		}
	} else if err := showDocument(os.Stdout, d); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written: %s and %s\n", path, strings.TrimSuffix(path, ".json")+".html")
	return verdict(d)
}

func verdict(d verify.Document) error {
	if code := d.Verdict.ExitCode(); code != verify.ExitPass {
		return &exitCode{code: code}
	}
	return nil
}

// showDocument prints what is to be known at once; tables are in the files.
func showDocument(out io.Writer, d verify.Document) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } //nolint:errcheck // Flush tells
	row("%s: %s", d.Site, d.Title)
	for _, f := range d.Facts {
		row("  %s\t%s", f.Name, f.Value)
	}
	for _, f := range d.Findings {
		row("%s\t%s\t%s", f.Severity, f.Subject, f.Message)
	}
	row("%s\t%s", strings.ToUpper(string(d.Verdict)), d.Claim)
	return w.Flush()
}

func newVerifyDocument(g *global) *cobra.Command {
	var anyKey bool
	var format string
	c := &cobra.Command{
		Use:   "document FILE",
		Short: "Check a document's signature without any connection; one changed byte makes it fail",
		Long: `Document checks a signed JSON or HTML document against this site's key in the vault. With --any-key it is checked against
the key that the document itself names, which shows damage but not forgery. Exit codes: 0 sound, 1 not.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var trusted ed25519.PublicKey
			if !anyKey {
				var err error
				if trusted, err = g.trusted(); err != nil {
					return err
				}
			}
			return checkDocument(os.Stdout, args[0], trusted, format)
		},
	}
	c.Flags().BoolVar(&anyKey, "any-key", false, "check against the key that the document names")
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// trusted is the site's key for documents.
func (g *global) trusted() (ed25519.PublicKey, error) {
	s, err := g.open()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	key, err := s.SigningKey()
	if err != nil {
		return nil, err
	}
	signer, err := verify.NewSigner(key)
	if err != nil {
		return nil, err
	}
	return signer.Public(), nil
}

func checkDocument(out io.Writer, path string, trusted ed25519.PublicKey, format string) error {
	if filepath.Ext(path) == ".html" {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := verify.CheckHTML(data, trusted); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		_, err = fmt.Fprintln(out, path+": sound")
		return err
	}
	d, err := verify.Read(path, trusted)
	if err != nil {
		return err
	}
	if format == "json" {
		return json.NewEncoder(out).Encode(d)
	}
	if err := showDocument(out, d); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, path+": sound")
	return err
}
