package main

import (
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

func newSSH(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "ssh NODE [-- COMMAND...]",
		Short: "Open a shell on a node, with the inventory's user, keys, jump hosts and host key checks",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.Close()
			h, err := s.Host(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			command := args[1:]
			if len(command) > 0 && command[0] == "--" {
				command = command[1:]
			}
			sh := remote.Shell{Command: strings.Join(command, " "), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
			restore := func() {}
			if fd := int(os.Stdin.Fd()); sh.Command == "" && term.IsTerminal(fd) {
				if sh.Terminal, restore, err = takeTerminal(fd); err != nil {
					return err
				}
			}
			code, err := h.Shell(cmd.Context(), sh)
			restore()
			if err != nil || code != 0 {
				return &exitCode{code: max(code, 1), err: err}
			}
			return nil
		},
	}
	c.Flags().SetInterspersed(false) // flags after NODE belong to the command
	return c
}

// takeTerminal gives the operator's terminal to the other end until restore is called.
func takeTerminal(fd int) (*remote.Terminal, func(), error) {
	width, height, err := term.GetSize(fd)
	if err != nil {
		return nil, nil, err
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, nil, err
	}
	resized, changed := make(chan [2]int, 1), make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		defer close(resized)
		for range changed {
			if w, h, err := term.GetSize(fd); err == nil {
				resized <- [2]int{w, h}
			}
		}
	}()
	return &remote.Terminal{Type: os.Getenv("TERM"), Width: width, Height: height, Resized: resized}, func() {
		signal.Stop(changed)
		close(changed)
		_ = term.Restore(fd, state) // nothing can be done about it
	}, nil
}
