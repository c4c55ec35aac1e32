package harvest

import (
	"archive/tar"
	"bufio"
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

//go:embed node.sh
var nodeScript string

// maxNode bounds what one node may send, in bytes. What a small node sends is a few MiB.
const maxNode = 256 << 20

// maxFile bounds one file, in bytes; the script sends none that is longer.
const maxFile = 512 << 10

// Runner is the part of remote.Runner that is needed.
type Runner interface {
	Name() string
	Run(ctx context.Context, c remote.Command) (remote.Result, error)
}

// Node looks through a node's files and processes, in one round trip. Nothing is written to the node, and what it sends is
// never written here.
func Node(ctx context.Context, r Runner, c *Collector) error {
	pr, pw := io.Pipe()
	ran := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, remote.Command{Script: nodeScript, Root: true, Stdout: pw})
		_ = pw.CloseWithError(err) // nil reads as the end
		ran <- err
	}()
	err := c.nodeStream(r.Name(), io.LimitReader(pr, maxNode))
	_ = pr.CloseWithError(errors.New("what the node sends is not understood"))
	if rerr := <-ran; rerr != nil {
		err = rerr
	}
	if err != nil {
		return fmt.Errorf("harvest %s: %w", r.Name(), err)
	}
	return nil
}

// nodeStream reads what node.sh prints.
func (c *Collector) nodeStream(node string, r io.Reader) error {
	in := bufio.NewReaderSize(r, 256<<10)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the list of processes ends too soon: %w", err)
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "files" {
			break
		}
		f := strings.Split(line, " ")
		if len(f) != 4 {
			return fmt.Errorf("%d words in a line of a process, expected 4", len(f)) // the line itself may hold secrets
		}
		data, err := base64.StdEncoding.DecodeString(f[3])
		if err != nil {
			return errors.New("a line of a process is not base64")
		}
		place := fmt.Sprintf("%s: %s of process %s (%s)", node, f[0], f[1], f[2])
		if f[0] == "environ" {
			c.Environment(place, data)
		} else {
			c.Text(place, data)
		}
	}
	archive := tar.NewReader(in)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return atEnd(in)
		}
		if err != nil {
			return fmt.Errorf("the archive of files: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(archive, maxFile))
		if err != nil {
			return fmt.Errorf("the archive of files: %w", err)
		}
		c.Text(node+": "+cleanPath(h.Name), data)
	}
}

// atEnd reads what tar pads its end with, and the word behind it: without it the node, or its tar, stopped before the end.
func atEnd(r io.Reader) error {
	const padding = 64 << 10 // bytes; tar fills records of 10 KiB
	rest, err := io.ReadAll(io.LimitReader(r, padding))
	if err == nil && strings.TrimLeft(string(rest), "\x00") != "end\n" {
		err = errors.New("the archive of files ends too soon")
	}
	return err
}

// atomic is the folder with a time in its name in which kubelet keeps the files of a volume.
var atomic = regexp.MustCompile(`/\.\.\d{4}_[^/]+/`)

func cleanPath(p string) string {
	return "/" + strings.TrimPrefix(atomic.ReplaceAllString(p, "/"), "/")
}
