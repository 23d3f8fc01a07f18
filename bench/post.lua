-- What wrk sends: one item a request, with a token from the environment.
wrk.method = "POST"
wrk.body = '{"phone":"0123456789","bank_account":"1234567890","email":"user@example.com","name":"Nguyen Van A","source":"extension"}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN")

-- One line of JSON at the end; wrk counts every status of 400 and above as an error.
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'WRK {"requests":%d,"secs":%.4f,"errors":%d,"p50_ms":%.3f,"p95_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3))
end
