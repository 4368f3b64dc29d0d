// The bare fan-out on Go's standard library: a goroutine per buyer, one deadline per auction.
//
//	GOMAXPROCS=1 fanout -ports 8001,8002 [-tmax-ms 1500]
//
// For every POST it asks all buyers over kept-alive connections and answers the best bid. It is not
// slowed on purpose: no limit of connections, no compression asked for, no redirect followed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const replyBytesMax = 64 << 10

type bid struct {
	Text string `json:"bid"`
	// Millionths, for comparing exactly.
	micros int64
}

type fanout struct {
	client *http.Client
	urls   []string
	tmax   time.Duration
}

func (f *fanout) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), f.tmax)
	defer cancel()
	answers := make(chan *bid, len(f.urls))
	for _, url := range f.urls {
		go func() { answers <- f.asked(ctx, url, body) }()
	}
	var best *bid
	for range f.urls {
		one := <-answers
		if one != nil && (best == nil || one.micros > best.micros) {
			best = one
		}
	}
	reply := []byte(`{"bid":null}`)
	if best != nil {
		reply, _ = json.Marshal(best)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	_, _ = w.Write(reply)
}

// asked is one buyer's bid, or nil: it did not answer in time, or not with a bid.
func (f *fanout) asked(ctx context.Context, url string, body []byte) *bid {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := f.client.Do(request)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, replyBytesMax))
	if err != nil || response.StatusCode != http.StatusOK {
		return nil
	}
	var one bid
	if json.Unmarshal(answer, &one) != nil {
		return nil
	}
	if one.micros, err = micros(one.Text); err != nil {
		return nil
	}
	return &one
}

// micros reads a decimal such as "12.5" exactly.
func micros(text string) (int64, error) {
	whole, part, _ := strings.Cut(text, ".")
	if whole == "" || len(part) > 6 {
		return 0, errors.New("not a price")
	}
	value, err := strconv.ParseInt(whole+part, 10, 64)
	for range 6 - len(part) {
		value *= 10
	}
	return value, err
}

func main() {
	ports := flag.String("ports", "", "where the buyers listen")
	tmaxMs := flag.Int("tmax-ms", 1500, "the deadline of an auction")
	flag.Parse()
	f := &fanout{
		client: &http.Client{
			Transport: &http.Transport{
				MaxIdleConnsPerHost: 1024,
				DisableCompression:  true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		tmax: time.Duration(*tmaxMs) * time.Millisecond,
	}
	for _, port := range strings.Split(*ports, ",") {
		f.urls = append(f.urls, "http://127.0.0.1:"+port+"/ping")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /ping", f)
	fmt.Printf("{\"pid\": %d, \"port\": %d}\n", os.Getpid(), listener.Addr().(*net.TCPAddr).Port)
	fmt.Fprintln(os.Stderr, http.Serve(listener, mux))
}
