// Judge asks Go's crypto/x509 what crypto/tls would ask it.
//
// Input, one case a line: usage, name (or -), Unix time, chain and anchors as comma-separated hex.
// Output, one line a case: "ok", or the error.
//
// Or: "dates" and a certificate in hex. Output: its two ends as Unix time.
// Or: "duration" and a text in hex. Output: its nanoseconds, or "none".
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func list(field string) [][]byte {
	var all [][]byte
	for _, text := range strings.Split(field, ",") {
		if text == "-" {
			continue
		}
		der, err := hex.DecodeString(text)
		if err != nil {
			panic(err)
		}
		all = append(all, der)
	}
	return all
}

func judge(line string) error {
	fields := strings.Split(line, " ")
	seconds, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		panic(err)
	}
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   time.Unix(seconds, 0),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if fields[0] == "server" {
		options.KeyUsages = nil
		if fields[1] != "-" {
			options.DNSName = fields[1]
		}
	}
	var chain []*x509.Certificate
	for _, der := range list(fields[3]) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, cert)
	}
	for _, der := range list(fields[4]) {
		// As AppendCertsFromPEM: what cannot be read is passed over.
		if cert, err := x509.ParseCertificate(der); err == nil {
			options.Roots.AddCert(cert)
		}
	}
	for _, cert := range chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err = chain[0].Verify(options)
	return err
}

func dates(line string) string {
	cert, err := x509.ParseCertificate(list(strings.Split(line, " ")[1])[0])
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %d", cert.NotBefore.Unix(), cert.NotAfter.Unix())
}

func duration(line string) string {
	text, err := hex.DecodeString(strings.TrimPrefix(line, "duration "))
	if err != nil {
		panic(err)
	}
	duration, err := time.ParseDuration(string(text))
	if err != nil {
		return "none"
	}
	return strconv.FormatInt(int64(duration), 10)
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(make([]byte, 1<<20), 1<<24)
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	for input.Scan() {
		if strings.HasPrefix(input.Text(), "dates ") {
			fmt.Fprintln(output, dates(input.Text()))
		} else if strings.HasPrefix(input.Text(), "duration ") {
			fmt.Fprintln(output, duration(input.Text()))
		} else if err := judge(input.Text()); err != nil {
			fmt.Fprintln(output, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Fprintln(output, "ok")
		}
	}
}
