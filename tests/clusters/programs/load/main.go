// The load that a benchmark puts on an API server through some path: it dials one address, whatever
// name the server's certificate carries, speaks HTTP/1.1, and tells latencies as one JSON line.
//
//	list    the same large answer again and again on one connection
//	kept    small requests at a steady pace, shared out among connections that stay open
//	fresh   small requests one after another, each on a connection of its own
//
// The pace does not wait for answers: a latency counts from when the request was due.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sort"
	"sync"
	"syscall"
	"time"
)

type told struct {
	Requests   int     `json:"requests"`
	Errors     int     `json:"errors"`
	FirstError string  `json:"first_error"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"seconds"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Most       float64 `json:"max_ms"`
	CPU        float64 `json:"cpu_seconds"`
}

type load struct {
	url       string
	transport func() *http.Transport
	lock      sync.Mutex
	latencies []time.Duration
	told      told
}

func (l *load) ask(client *http.Client, due time.Time) {
	size, err := read(client, l.url)
	passed := time.Since(due)
	l.lock.Lock()
	defer l.lock.Unlock()
	l.told.Requests++
	l.told.Bytes += size
	if err != nil {
		l.told.Errors++
		l.told.FirstError = err.Error()
		return
	}
	l.latencies = append(l.latencies, passed)
}

func read(client *http.Client, url string) (int64, error) {
	answer, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	size, err := io.Copy(io.Discard, answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", answer.Status)
	}
	return size, err
}

func (l *load) list(count int) {
	client := &http.Client{Transport: l.transport()}
	for range count {
		l.ask(client, time.Now())
	}
}

func (l *load) fresh(count int) {
	for range count {
		transport := l.transport()
		l.ask(&http.Client{Transport: transport}, time.Now())
		transport.CloseIdleConnections()
	}
}

func (l *load) kept(connections int, rate float64, lasting time.Duration) {
	between := time.Duration(float64(time.Second) * float64(connections) / rate)
	var open, work sync.WaitGroup
	start := make(chan time.Time)
	for number := range connections {
		client := &http.Client{Transport: l.transport()}
		open.Add(1)
		work.Add(1)
		go func() {
			defer work.Done()
			_, err := read(client, l.url) // opens the connection, which is not measured here
			if err != nil {
				l.lock.Lock()
				l.told.Errors++
				l.told.FirstError = err.Error()
				l.lock.Unlock()
			}
			open.Done()
			begin := <-start
			due := begin.Add(between * time.Duration(number) / time.Duration(connections))
			for ; due.Before(begin.Add(lasting)); due = due.Add(between) {
				time.Sleep(time.Until(due))
				l.ask(client, due)
			}
		}()
	}
	open.Wait()
	begin := time.Now()
	for range connections {
		start <- begin
	}
	work.Wait()
	l.told.Seconds = time.Since(begin).Seconds()
}

func (l *load) tell() {
	sort.Slice(l.latencies, func(a, b int) bool { return l.latencies[a] < l.latencies[b] })
	at := func(share float64) float64 {
		if len(l.latencies) == 0 {
			return 0
		}
		index := min(int(share*float64(len(l.latencies))), len(l.latencies)-1)
		return l.latencies[index].Seconds() * 1000
	}
	l.told.P50, l.told.P99, l.told.Most = at(0.5), at(0.99), at(1)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err == nil {
		l.told.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	}
	json.NewEncoder(os.Stdout).Encode(l.told)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	mode := flag.String("mode", "", "list, kept or fresh")
	address := flag.String("address", "", "HOST:PORT to dial")
	name := flag.String("server-name", "kubernetes.default.svc", "name in the server's certificate")
	path := flag.String("path", "", "path and query of the request")
	authority := flag.String("ca", "", "file with the server's certificate authority")
	certificate := flag.String("cert", "", "file with the client's certificate")
	key := flag.String("key", "", "file with the client's key")
	count := flag.Int("count", 0, "requests, for list and fresh")
	connections := flag.Int("connections", 0, "connections, for kept")
	rate := flag.Float64("rate", 0, "requests per second, for kept")
	lasting := flag.Duration("lasting", 0, "how long, for kept")
	flag.Parse()

	pem, err := os.ReadFile(*authority)
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	must(err)
	dialer := net.Dialer{Timeout: 10 * time.Second}
	l := &load{url: "https://" + *name + *path, transport: func() *http.Transport {
		return &http.Transport{
			MaxConnsPerHost:    1,
			DisableCompression: true,
			TLSClientConfig: &tls.Config{
				RootCAs: pool, ServerName: *name, Certificates: []tls.Certificate{pair},
			},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, *address)
			},
		}
	}}
	begin := time.Now()
	switch *mode {
	case "list":
		l.list(*count)
	case "kept":
		l.kept(*connections, *rate, *lasting)
	case "fresh":
		l.fresh(*count)
	default:
		must(fmt.Errorf("no mode %q", *mode))
	}
	if l.told.Seconds == 0 {
		l.told.Seconds = time.Since(begin).Seconds()
	}
	l.tell()
}
