package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// serve opens a machine's listener and answers on it until the process ends.
func serve(c Config, m Machine, t *tally) error {
	key, err := ssh.ParsePrivateKey([]byte(m.HostKey))
	if err != nil {
		return fmt.Errorf("host key: %w", err)
	}
	authorized, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.AuthorizedKey))
	if err != nil {
		return fmt.Errorf("authorized key: %w", err)
	}
	capture, err := os.ReadFile(m.Capture)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
			if !bytes.Equal(offered.Marshal(), authorized.Marshal()) {
				return nil, errors.New("not the key of the benchmark")
			}
			return nil, nil
		},
	}
	config.AddHostKey(key)
	l, err := net.Listen("tcp", m.Listen)
	if err != nil {
		return err
	}
	s := &server{machine: m.Name, script: c.Script, capture: capture, roundTrip: c.RoundTrip, config: config, tally: t}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				fmt.Fprintf(os.Stderr, "standin: %s: %v\n", m.Name, err)
				return
			}
			go s.connection(conn)
		}
	}()
	return nil
}

// server is one machine.
type server struct {
	machine, script string
	capture         []byte
	roundTrip       time.Duration
	config          *ssh.ServerConfig
	tally           *tally
}

func (s *server) connection(conn net.Conn) {
	s.tally.connection(s.machine)
	conn = slow(conn, s.roundTrip)
	defer conn.Close() //nolint:errcheck // the client hung up before
	sc, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		fmt.Fprintf(os.Stderr, "standin: %s: %v\n", s.machine, err)
		return
	}
	defer sc.Close() //nolint:errcheck // as above
	// keep-alives get the answer that sshd gives them, too: no
	go ssh.DiscardRequests(requests)
	for ch := range channels {
		if ch.ChannelType() != "session" {
			s.tally.unknown()
			_ = ch.Reject(ssh.UnknownChannelType, "a stand-in forwards nothing")
			continue
		}
		session, requests, err := ch.Accept()
		if err != nil {
			return
		}
		go s.session(session, requests)
	}
}

func (s *server) session(session ssh.Channel, requests <-chan *ssh.Request) {
	for r := range requests {
		var command struct{ Text string }
		known := r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) == nil
		if r.WantReply {
			_ = r.Reply(known, nil) // a lost link ends requests
		}
		if known {
			s.execute(session, command.Text)
		}
	}
}

// begin is the line at a script's head with which it tells both its outputs that it runs: what a shell would print.
var begin = regexp.MustCompile(`echo (\S+); echo (\S+) >&2\n`)

// execute answers a command. The script stands in it quoted for a shell, as one word.
func (s *server) execute(session ssh.Channel, command string) {
	s.tally.command(s.machine)
	status := uint32(127)
	if strings.Contains(strings.ReplaceAll(command, `'\''`, `'`), s.script) {
		status = 0
		if echo := begin.FindStringSubmatch(command); echo != nil {
			_, _ = fmt.Fprintln(session, echo[1])
			_, _ = fmt.Fprintln(session.Stderr(), echo[2])
		}
		now := time.Now()
		clock := fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond())
		_, _ = session.Write(bytes.Replace(s.capture, []byte("@CLOCK@"), []byte(clock), 1))
	} else {
		s.tally.unknown()
		_, _ = fmt.Fprintln(session.Stderr(), "a stand-in executes nothing")
	}
	_, _ = session.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
	_ = session.Close() // errors of the link end the connection, which connection sees
}
