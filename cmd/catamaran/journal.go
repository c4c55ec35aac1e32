package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func newJournal(g *global) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "journal",
		Short: "Check the journal's hash chain and print what every run did",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			inv, err := inventory.Load(g.inventory)
			if err != nil {
				return err
			}
			path := filepath.Join(inv.SiteDir(), plan.JournalName)
			f, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("%w; the first apply begins the journal", err)
			}
			defer f.Close() //nolint:errcheck // only read
			entries, err := plan.ReadJournal(f)
			if serr := showJournal(entries, format); serr != nil {
				return serr
			}
			if err != nil {
				return fmt.Errorf("%s: %w: it was changed by something else than catamaran", path, err)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

func showJournal(entries []plan.Entry, format string) error {
	if format == "json" {
		return json.NewEncoder(os.Stdout).Encode(entries)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, e := range entries {
		what := e.Step
		switch e.Type {
		case plan.EntryRun:
			what = fmt.Sprintf("%s on %s, catamaran %s, inventory %.12s", e.Operator, e.Machine, e.Version, e.Inventory)
		case string(plan.Changed):
			what += ": " + e.Title
		case string(plan.End):
			what += " " + (time.Duration(e.TookMS) * time.Millisecond).String()
		}
		if e.Error != "" {
			what += ": " + e.Error
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Time.Local().Format(time.DateTime), e.Run, e.Type, what); err != nil {
			return err
		}
	}
	return w.Flush()
}
