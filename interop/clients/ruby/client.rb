# Makes the calls that it is told to, one JSON object a line, and reports them: the protocol of interop/.
require "json"

require "actions"

$stdout.sync = true
actions = Actions.new

$stdin.each_line do |line|
  begin
    report = actions.run(JSON.parse(line))
  rescue StandardError => e
    warn e.full_message(highlight: false)
    report = { failed: "#{e.class}: #{e.message}" }
  end
  puts JSON.generate(report)
end
