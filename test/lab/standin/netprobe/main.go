// Command netprobe is wget and nslookup of the lab's busybox image, by the name it is called. Debian's static busybox
// crashes when it asks a name server (its C library can not be linked statically there), so those two are ours. They take
// only what probes need:
//
//	wget [-q] [-O FILE|-] [-T SECONDS] [--spider] URL
//	nslookup NAME
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if name == "netprobe" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	run, ok := map[string]func(context.Context, []string, io.Writer) error{"wget": wget, "nslookup": nslookup}[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "netprobe: usage: netprobe wget|nslookup ARGUMENT ...")
		os.Exit(2)
	}
	if err := run(ctx, args, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1) //nolint:gocritic // the process ends, so do its signals
	}
}

// request is what the arguments of wget ask for.
type request struct {
	url     string
	output  string // a file, or "-"
	timeout time.Duration
	spider  bool
}

// parse reads the arguments as busybox does: one-letter flags may be joined (-qO-) and their values too (-T5).
func parse(args []string) (request, error) {
	r := request{timeout: 15 * time.Minute}
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--spider":
			r.spider = true
		case a == "--quiet":
		case strings.HasPrefix(a, "-") && len(a) > 1:
			rest, err := r.short(a[1:], args)
			if err != nil {
				return r, err
			}
			args = rest
		case r.url == "":
			r.url = a
		default:
			return r, fmt.Errorf("one URL at a time, not %q too", a)
		}
	}
	if r.url == "" {
		return r, errors.New("no URL")
	}
	if !strings.Contains(r.url, "://") {
		r.url = "http://" + r.url
	}
	return r, nil
}

func (r *request) short(flags string, args []string) ([]string, error) {
	for flags != "" {
		f := flags[0]
		flags = flags[1:]
		switch f {
		case 'q', 'S':
			continue
		case 'O', 'T':
		default:
			return nil, fmt.Errorf("flag -%c is not known here", f)
		}
		value := flags
		if value == "" {
			if len(args) == 0 {
				return nil, fmt.Errorf("flag -%c needs a value", f)
			}
			value, args = args[0], args[1:]
		}
		if f == 'O' {
			r.output = value
			return args, nil
		}
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("-T %q: expected seconds", value)
		}
		r.timeout = time.Duration(n) * time.Second
		return args, nil
	}
	return args, nil
}

func wget(ctx context.Context, args []string, stdout io.Writer) error {
	r, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("server returned error: HTTP/1.1 %s", resp.Status)
	}
	if r.spider {
		return nil
	}
	return r.save(req, resp.Body, stdout)
}

func (r *request) save(req *http.Request, body io.Reader, stdout io.Writer) error {
	if r.output == "-" {
		_, err := io.Copy(stdout, body)
		return err
	}
	if r.output == "" {
		r.output = filepath.Base(req.URL.Path)
		if r.output == "/" || r.output == "." {
			r.output = "index.html"
		}
	}
	f, err := os.Create(r.output)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

func nslookup(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("no name")
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, args[0])
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if _, err := fmt.Fprintf(stdout, "Name:\t%s\nAddress: %s\n", args[0], a); err != nil {
			return err
		}
	}
	return nil
}
