# A gateway of either server, configured once in nginx's words, with an upstream
# behind it that answers with the request that it got: what was asked, what was
# sent on, what was logged and what was exported, of each request by its number.
package EdgespanTest::Gateway;

use strict;
use warnings;

use JSON::PP ();

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::Upstream;

# What the access log says, in the words of each server.
my %LOGGED = (
    nginx => {request => '$request', status => '$status', at => '$msec', pid => '$pid',
        trace => '$otel_trace_id', span => '$otel_span_id', parent => '$otel_parent_id',
        sampled => '$otel_sampled', decision => '$otel_decision'},
    httpd => {request => '%r', status => '%>s', at => '%{sec}t.%{msec_frac}t', pid => '%P',
        trace => '%{OTEL_TRACE_ID}e', span => '%{OTEL_SPAN_ID}e',
        parent => '%{OTEL_PARENT_ID}e', sampled => '%{OTEL_SAMPLED}e',
        decision => '%{OTEL_DECISION}e'},
);

# Options besides those of the server's class; configuration is text in nginx's
# words, {nginx => ..., httpd => ...} in each server's own, or a list of these:
#   main     of http{}, of the server config
#   servers  of each server{} (virtual host), [''] by default
#   proxied  [path => text ...]: the places that the upstream is behind
#   served   [path => text ...]: places with a file
#   log      {name => {nginx => ..., httpd => ...}}: more of the access log
#   respond  how the upstream answers, if otherwise (see EdgespanTest::Upstream)
# One process, unless `workers` says otherwise.
sub new {
    my ($class, $kind, %opt) = @_;
    my $self = bless {kind => $kind, serial => 0, collector => EdgespanTest::Collector->new}, $class;
    $self->{upstream} = EdgespanTest::Upstream->new(respond => delete $opt{respond} // \&echo);
    $self->{servers} = delete $opt{servers} // [''];
    $self->{places} = [_pairs(delete $opt{proxied}, 1), _pairs(delete $opt{served}, 0),
        [ '/settled/', 'otel_trace on; otel_sampler always_on;', 0 ]];
    $self->{log} = delete $opt{log} // {};
    $self->{main} = delete $opt{main} // '';
    my %common = (workers => 1, access_log => 0, %opt, http => $self->_config,
        vars => {UPSTREAM => $self->{upstream}->address, %{$opt{vars} // {}}},
        files => {(map { ("html$_->[0]f" => "ok\n") } grep { !$_->[2] } @{$self->{places}}), %{$opt{files} // {}}});
    $self->{server} = $kind eq 'nginx' ? EdgespanTest::Nginx->new(%common)
        : EdgespanTest::Httpd->new(threads => 16, %common);
    $self->{server}->start;
    return $self;
}

# The answer to a request: its bytes.
sub echo {
    my ($bytes) = @_;
    return sprintf "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length $bytes, $bytes;
}

sub _pairs {
    my ($list, $proxied) = @_;
    return map { [@$list[2 * $_, 2 * $_ + 1], $proxied] } 0 .. @{$list // []} / 2 - 1;
}

sub _words {
    my ($self, $text) = @_;
    return join "\n", map { $self->_words($_) } @$text if ref $text eq 'ARRAY';
    return $text->{$self->{kind}} // '' if ref $text;
    return $text if $self->{kind} eq 'nginx';
    return join '', map { s/^\s+|\s+\z//gr =~ s/^otel_(\w+)/join '', 'Otel', map { ucfirst } split m{_}, $1/er . "\n" }
        split /;/, $text;
}

sub _config {
    my ($self) = @_;
    my $n = 0;
    my %logged = %{$LOGGED{$self->{kind}}};
    $logged{$_} = $self->{log}{$_}{$self->{kind}} for keys %{$self->{log}};
    my $nginx = $self->{kind} eq 'nginx';
    my @servers = map { $nginx ? $self->_nginx_server($_, ++$n) : $self->_virtual_host($_, ++$n) }
        @{$self->{servers}};
    my $exporter = $self->{collector}->url;
    return join "\n", "otel_exporter { endpoint $exporter; interval 20ms; }", 'otel_trace on;',
        'otel_service_name gateway;', 'keepalive_requests 1000000;',
        "log_format gateway escape=json '{" . join(',', map {qq{"$_":"$logged{$_}"}} sort keys %logged)
        . "}';", $self->_words($self->{main}), @servers
        if $nginx;
    return join "\n", "OtelExporter $exporter interval=20ms", 'OtelTrace On', 'OtelServiceName gateway',
        'MaxKeepAliveRequests 0', 'LogFormat "{'
        . join(',', map {qq{\\"$_\\":\\"$logged{$_}\\"}} sort keys %logged) . '}" gateway',
        'CustomLog %%PREFIX%%/gateway.log gateway', $self->_words($self->{main}), @servers, '';
}

sub _nginx_server {
    my ($self, $server, $n) = @_;
    return join "\n", "server { listen 127.0.0.1:%%PORT$n%% backlog=1024;", $self->_words($server),
        'access_log %%PREFIX%%/gateway.log gateway;',
        'location = /status { otel_status json; }',
        (map { my ($path, $text, $proxied) = @$_;
            ("location $path {", $self->_words($text),
                $proxied ? "proxy_pass http://%%UPSTREAM%%;" : (), '}') } @{$self->{places}}), '}';
}

sub _virtual_host {
    my ($self, $server, $n) = @_;
    return join "\n", $n > 1 ? "Listen 127.0.0.1:%%PORT$n%%" : 'Listen 127.0.0.1:%%PORT%%',
        "<VirtualHost 127.0.0.1:%%PORT$n%%>", 'DocumentRoot %%PREFIX%%/html', $self->_words($server),
        "<Location /status>\nSetHandler otel-status\n</Location>",
        (map { my ($path, $text, $proxied) = @$_;
            ($proxied ? "ProxyPass $path http://%%UPSTREAM%%$path" : (),
                "<Location $path>", $self->_words($text), '</Location>') } @{$self->{places}}),
        '</VirtualHost>';
}

sub kind      { return $_[0]{kind} }
sub server    { return $_[0]{server} }
sub collector { return $_[0]{collector} }
sub upstream  { return $_[0]{upstream} }
sub port      { return $_[0]{server}->port($_[1]) }

# "nginx.conf:42", where the configuration has this text for the first time.
sub place {
    my ($self, $text) = @_;
    my $file = "$self->{kind}.conf";
    my $line = 0;
    for (split /\n/, slurp($self->{server}->prefix . "/$file")) {
        $line++;
        return "$file:$line" if /\Q$text\E/;
    }
    die "no $text in $file\n";
}

# One request. Options: server (1), what http_get takes. The reply: n (its number),
# answer, and sent: the [name, value]s that the upstream got, names in lower case.
sub ask {
    my ($self, $path, %opt) = @_;
    my $n = ++$self->{serial};
    my $answer = http_get($self->port(delete $opt{server} // 1), "$path?n=$n", %opt);
    my ($head) = split /\r\n\r\n/, $answer->{body}, 2;
    my (undef, @lines) = split /\r\n/, $head // '';
    return {n => $n, answer => $answer,
        sent => [map { /^([^:]+):\s*(.*)$/ ? [lc $1, $2] : () } @lines]};
}

# The values that the upstream got of a header, as one text; undef: none.
sub sent {
    my ($asked, $name) = @_;
    my @values = map { $_->[1] } grep { $_->[0] eq lc $name } @{$asked->{sent}};
    return @values ? join ' & ', @values : undef;
}

# Waits until all that was asked so far is logged and exported: a last request's
# span comes behind theirs. Of several processes the exporter may just have passed
# one by when it finds that span; the next time it has not.
sub settle {
    my ($self) = @_;
    for (1, 2) {
        my $last = $self->ask('/settled/f');
        $last->{answer}{status} == 200 or die "$self->{kind} does not settle: $last->{answer}{raw}";
        $self->{collector}->wait_spans(1, 10, attr => {'url.query' => "n=$last->{n}"});
    }
    $self->{records} = {};
    for ($self->records(qr/[?&]n=\w/)) {
        $self->{records}{$1} = $_ if $_->{request} =~ /[?&]n=(\w+)/;
    }
    $self->{spans} = {};
    push @{$self->{spans}{$_->{trace_id}}}, $_ for $self->{collector}->spans;
    return;
}

# Lines of the access log that match. httpd writes bytes that are not ASCII as \xHH,
# which is no JSON.
sub records {
    my ($self, $pattern) = @_;
    my $json = JSON::PP->new->utf8;
    return map { $json->decode(s/\\x([0-9a-f]{2})/chr hex $1/egr) } grep { $_ =~ $pattern }
        (slurp($self->{server}->prefix . '/gateway.log') // '') =~ /(.*)\n/g;
}

# {value => lines} of what the access log says under a name; of very many, too.
sub tally {
    my ($self, $name, $path) = @_;
    my %of;
    open my $log, '<', $self->{server}->prefix . '/gateway.log' or die "no log: $!\n";
    while (<$log>) { $of{$1}++ if /"\Q$name\E":"([^"]*)"/ && index($_, " $path") >= 0 }
    return \%of;
}

# The line of the access log about a request, once it is settled.
sub record {
    my ($self, $asked) = @_;
    return $self->{records}{$asked->{n}} // die "request $asked->{n} is not logged\n";
}

# Its spans, SERVER first; as many as there are.
sub spans {
    my ($self, $asked) = @_;
    my $record = $self->record($asked);
    my ($trace, $span) = @$record{qw(trace span)};
    return sort { $b->{kind} cmp $a->{kind} }
        grep { $_->{span_id} eq $span || $_->{parent_span_id} eq $span } @{$self->{spans}{$trace} // []};
}

# Counters of the status page about decisions: {ratio_sampled => 12, ...}.
sub decided {
    my ($self) = @_;
    my $page = http_get($self->port, '/status', headers => [[Accept => 'application/json']]);
    return JSON::PP::decode_json($page->{body})->{spans}{decided};
}

# Runs $code, which asks $count times; how the counters have grown then.
sub counted {
    my ($self, $count, $code) = @_;
    my $before = $self->decided;
    $code->();
    my %grown;
    wait_for(sub {
        my $now = $self->decided;
        my $sum = 0;
        %grown = map { $sum += my $by = $now->{$_} - ($before->{$_} // 0); $by ? ($_ => $by) : () } keys %$now;
        $sum >= $count;
    }, 10, "$count decisions");
    return \%grown;
}

# Ends it: one test that there was no trouble.
sub finish {
    my ($self) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $self->{server}->stop;
    $self->{server}->finish;
    $self->{upstream}->stop;
    $self->{collector}->stop;
    return;
}

1;
