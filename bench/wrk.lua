-- The requests of one wrk run, configured by environment variables (load.py sets them); prints the result as one line of JSON.
local operation, method, path = os.getenv("BENCH_OPERATION"), os.getenv("BENCH_METHOD"), os.getenv("BENCH_PATH")
local body, run, rows = os.getenv("BENCH_BODY"), os.getenv("BENCH_RUN"), tonumber(os.getenv("BENCH_ROWS"))
local headers, n = {}, 0
if operation == "post" then headers["Content-Type"] = "application/json" end
math.randomseed(tonumber(os.getenv("BENCH_SEED")))
local before, after = string.match(path, "^(.*){id}(.*)$")

function request()
  if operation == "post" then
    n = n + 1
    return wrk.format(method, path, headers, (string.gsub(body, "{sku}", run .. n)))
  end
  return wrk.format(method, before .. math.random(1, rows) .. after, headers)
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\nJSON{"requests":%d,"us":%d,"p50":%.1f,"p99":%.1f,"bad":%d}\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    e.status + e.connect + e.read + e.write + e.timeout))
end
