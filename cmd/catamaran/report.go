package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/evidence"
)

func newReport(g *global) *cobra.Command {
	var dir, check, format string
	c := &cobra.Command{
		Use:   "report",
		Short: "Gather the evidence pack of a site for auditors, as JSON and as one HTML file",
		Long: `Report reads every machine and both API servers at once, and changes nothing (each API server is asked for a
Secret that does not exist, which it must audit): versions, image digests, host keys, audit policy, certificates,
network policies and pods that none covers, who has all rights, SSH keys, encryption at rest, clocks, Falco, API policy, the journal's
hash chain and the latest documents of ` + "`catamaran verify`" + `. It says which controls of ISO 27001, NIST 800-171, GDPR and NIS2 that meets, and
what it says nothing about. Both files are signed with the site's key.

With --check it verifies such a file instead, without any connection: one changed byte makes it fail. Where the inventory is at hand it is
checked against the site's key, otherwise against the key that the file names, which shows damage but not forgery.
Exit codes: 0 nothing is amiss, 1 something is not met (or the file is not sound), 4 something could not be judged.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check != "" {
				return g.checkReport(check, format)
			}
			started := time.Now()
			k, err := g.check()
			if err != nil {
				return err
			}
			defer k.site.Close()
			sources, err := k.site.EvidenceSources(cmd.Context())
			if err != nil {
				return err
			}
			sources.Trusted = k.signer.Public()
			pack, err := evidence.Gather(cmd.Context(), k.subject, sources)
			if err != nil {
				return err
			}
			if dir == "" {
				dir = verify.Folder(k.site.Inventory.SiteDir())
			}
			d := pack.Document(k.subject, started)
			path, err := pack.Write(dir, d, k.signer)
			if err != nil {
				return err
			}
			if format == "json" {
				err = json.NewEncoder(os.Stdout).Encode(pack)
			} else {
				err = showReport(os.Stdout, &pack)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "written: %s and %s\n", path, strings.TrimSuffix(path, ".json")+".html")
			return verdict(d)
		},
	}
	f := c.Flags()
	f.StringVarP(&format, "output", "o", "text", "text or json")
	f.StringVar(&dir, "out", "", "the folder to write to (default the site's folder of documents)")
	f.StringVar(&check, "check", "", "check this JSON or HTML file instead")
	return c
}

// checkReport verifies a file offline.
func (g *global) checkReport(path, format string) error {
	var trusted ed25519.PublicKey
	_, err := os.Stat(g.inventory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(os.Stderr, "there is no %s here: checked against the key that the file names; compare it with the site's\n", g.inventory)
	case err != nil:
		return err
	default:
		if trusted, err = g.trusted(); err != nil {
			return err
		}
	}
	return checkDocument(os.Stdout, path, trusted, format)
}

// mostMissing is how many things that one piece of evidence lacks are printed.
const mostMissing = 5

// showReport prints the evidence; the rest is in the files.
func showReport(out io.Writer, p *evidence.Pack) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } //nolint:errcheck // Flush tells
	for _, e := range p.Evidence {
		row("%s\t%s\t%s", strings.ToUpper(string(e.Status)), e.Title, e.Reason)
		for i, m := range e.Missing {
			if i == mostMissing {
				row("\t\t  and %d more, in the files", len(e.Missing)-i)
				break
			}
			row("\t\t  %s", m)
		}
	}
	for _, g := range p.Gaps {
		row("could not be read\t%s\t%s", g.Subject, g.Reason)
	}
	return w.Flush()
}
