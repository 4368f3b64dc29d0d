-- All buyers are asked at once by subrequests to upstreams with kept-alive connections; the best
-- bid is answered. Prices are compared as numbers: two decimals are far from a double's end.
local decoded = require("cjson.safe").decode
local encoded = require("cjson.safe").encode

local ASKED = { method = ngx.HTTP_POST }
local requests

local fanout = { buyers = 0 }

local function all()
    local list = {}
    for number = 1, fanout.buyers do
        list[number] = { "/ask/" .. number, ASKED }
    end
    return list
end

function fanout.auction()
    ngx.req.read_body()
    requests = requests or all()
    local replies = { ngx.location.capture_multi(requests) }
    local best, best_text = -1, nil
    for number = 1, #replies do
        local reply = replies[number]
        local answer = reply.status == 200 and decoded(reply.body)
        local value = answer and tonumber(answer.bid)
        if value and value > best then
            best, best_text = value, answer.bid
        end
    end
    local text = encoded({ bid = best_text or ngx.null })
    ngx.header["Content-Type"] = "application/json"
    ngx.header["Content-Length"] = #text
    ngx.print(text)
end

return fanout
