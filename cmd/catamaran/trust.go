package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
)

func newTrust(g *global) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "trust [NODE...]",
		Short: "Learn the SSH host keys of machines that nobody pinned",
		Long: `Trust asks every machine whose SSH host key is neither pinned in the inventory nor known for its keys, shows their
fingerprints, and writes them to the site's known_hosts after you said yes. The fingerprints come over the network:
compare them with what the machine's own console says,

  for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done

because whoever is in between now stays in between. Exit codes: 0 all are known, 4 some could not be asked.`,
		RunE: func(cmd *cobra.Command, nodes []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.Close()
			for trusted := 0; ; {
				strangers, err := s.Strangers(cmd.Context(), nodes...)
				if err != nil {
					return err
				}
				shown, failed := showStrangers(os.Stdout, strangers)
				if shown > 0 && !yes {
					ok, err := confirm(fmt.Sprintf("are these the keys of these %d machines?", shown))
					if err != nil || !ok {
						return err
					}
				}
				if err := s.Trust(strangers); err != nil {
					return err
				}
				trusted += shown
				// machines behind a jump host that was a stranger itself come in the next round
				if !slices.ContainsFunc(strangers, func(st bootstrap.Stranger) bool { return st.Jump && st.Err == nil }) {
					return trustStatus(trusted, failed)
				}
			}
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "trust what the network says without asking")
	return c
}

// showStrangers prints the fingerprints of each machine, and counts those that have some and those that do not.
func showStrangers(w io.Writer, strangers []bootstrap.Stranger) (shown, failed int) {
	for _, st := range strangers {
		if st.Err != nil {
			failed++
			_, _ = fmt.Fprintf(w, "%s\n  %v\n", st.Name, st.Err)
			continue
		}
		shown++
		_, _ = fmt.Fprintf(w, "%s (%s port %d)\n", st.Name, st.Address, st.Port)
		for _, k := range st.Keys {
			_, _ = fmt.Fprintf(w, "  %-20s %s\n", k.Type, k.Fingerprint)
		}
	}
	return shown, failed
}

func trustStatus(trusted, failed int) error {
	if failed > 0 {
		return &exitCode{code: exitPartial, err: fmt.Errorf("%d machines could not be asked for their keys", failed)}
	}
	if trusted == 0 {
		_, _ = fmt.Fprintln(os.Stderr, "all host keys are known already")
	} else {
		_, _ = fmt.Fprintf(os.Stderr, "the keys of %d machines are known now\n", trusted)
	}
	return nil
}
