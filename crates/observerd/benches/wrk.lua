-- One request again and again, and one line of figures at the end. What is sent is in the environment.

wrk.method = os.getenv("FIGURES_METHOD")
wrk.headers["Authorization"] = "Bearer " .. os.getenv("OBSERVERD_TOKEN")
if wrk.method == "POST" then
   wrk.headers["Content-Type"] = "application/json"
   wrk.body = os.getenv("FIGURES_BODY")
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format("figures %d %d %d %d %d %d\n", summary.requests, summary.duration, failed,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
