// Go's net/http: `calls BASE CA USER PASSWORD` mints, calls, uploads and revokes, and prints a line a step.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

var (
	base, user, password = os.Args[1], os.Args[3], os.Args[4]
	client               *http.Client
)

const endpoint = "/ds-api/user-token"

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask(step, method, target, token string, body []byte) []byte {
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	request, err := http.NewRequest(method, base+target, content)
	must(err)
	if token != "" {
		request.Header.Set("user-token", token)
	}
	if step == "mint" {
		request.SetBasicAuth(user, password)
	}
	if step == "upload" {
		request.Header.Set("Expect", "100-continue")
	}
	answer, err := client.Do(request)
	must(err)
	text, err := io.ReadAll(answer.Body)
	must(err)
	must(answer.Body.Close())
	expected := 1
	if strings.HasPrefix(base, "https") {
		expected = 2
	}
	if answer.ProtoMajor != expected {
		must(fmt.Errorf("%s: %s", step, answer.Proto))
	}
	line := fmt.Sprint(step, " ", answer.StatusCode, " ", answer.Header.Get("WWW-Authenticate"))
	fmt.Println(strings.TrimSpace(line))
	return text
}

func main() {
	pem, err := os.ReadFile(os.Args[2])
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
		// As in http.DefaultTransport: over HTTP/2 the body goes out after it, since no 100 comes.
		ExpectContinueTimeout: time.Second,
	}}
	var minted map[string]string
	must(json.Unmarshal(ask("mint", "POST", endpoint, "", nil), &minted))
	token := minted["user-token"]
	ask("call", "GET", "/ds-api/agents?x=1", token, nil)
	ask("without", "GET", "/ds-api/agents?x=2", "", nil)
	for _, method := range []string{"HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		var small []byte
		if method[0] == 'P' {
			small = []byte(`{"name":"a"}`)
		}
		ask(method, method, "/ds-api/small", token, small)
	}
	ask("upload", "PUT", "/ds-api/upload", token, bytes.Repeat([]byte("0123456789"), 10_000))
	ask("revoke", "DELETE", endpoint, token, nil)
	ask("after", "GET", "/ds-api/agents?x=3", token, nil)
}
