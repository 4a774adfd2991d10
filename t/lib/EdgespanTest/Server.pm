package EdgespanTest::Server;

# What the nginx and httpd harnesses share: a prefix directory, placeholders,
# the process and its session, logs, and the checks at the end.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Path qw(make_path);
use POSIX ();
use Scalar::Util qw(weaken);
use Test::More ();
use Time::HiRes qw(time);

use EdgespanTest;

my %LIVE;

# Output of sanitizers and of glibc's heap checks never goes unnoticed.
my $MEMORY_TROUBLE = qr/AddressSanitizer|LeakSanitizer|ThreadSanitizer
    |runtime\ error:|double\ free|corrupted|stack\ smashing
    |free\(\):|malloc\(\):|Assertion\ .*failed/x;

sub _new {
    my ($class, %opt) = @_;
    my $self = bless { module => 1, start_timeout => 15, stop_timeout => 30,
        env => {}, vars => {}, files => {}, %opt,
        owner => $$, prefix => tmpdir(), ports => {}, pinned => {},
        pids => {}, trouble => [] }, $class;
    if ($self->{module}) {
        my $file = $self->module_file;
        die "$file is missing: build the modules first\n" unless -e $file;
    }
    make_path(map {"$self->{prefix}/$_"} qw(run data html tmp cgi-bin));
    # The server's workers may run as another user than we do.
    chmod 0777, map {"$self->{prefix}/$_"} qw(data tmp run);
    $self->write_file('html/index.html', "index\n");
    $self->write_file($_, $self->{files}{$_}) for sort keys %{ $self->{files} };
    weaken($LIVE{$self} = $self);
    return $self;
}

sub prefix { return $_[0]{prefix} }

# Asking for a port before the first start pins it: otherwise a port that
# somebody else grabbed meanwhile is replaced.
sub port {
    my ($self, $n) = @_;
    $n ||= 1;
    $self->{pinned}{$n} = 1;
    return $self->{ports}{$n} //= free_port();
}

# Path below the prefix; scripts (starting with #!) become executable.
sub write_file {
    my ($self, $name, $content, $mode) = @_;
    my $file = "$self->{prefix}/$name";
    make_path(dirname($file));
    open my $fh, '>:raw', $file or die "$file: $!\n";
    print {$fh} $content;
    close $fh or die "$file: $!\n";
    chmod $mode // ($content =~ /^#!/ ? 0755 : 0644), $file;
    return $file;
}

sub expand {
    my ($self, $text) = @_;
    my %value = (
        PREFIX => $self->{prefix},
        MODULE_DIR => dirname($self->module_file),
        SYSTEM_MODULES => $self->system_modules // '',
        %{ $self->{vars} },
    );
    $text =~ s{%%PORT(\d*)%%}{
        $self->{ports}{ $1 || 1 } //= free_port() }ge;
    $text =~ s{%%(\w+)%%}{
        $value{$1} // die "unknown placeholder %%$1%%\n" }ge;
    return $text;
}

# --- Process ------------------------------------------------------------

sub _find_program {
    my ($self, $env, @names) = @_;
    return $ENV{$env} if $ENV{$env};
    for my $dir (split(/:/, $ENV{PATH} // ''), qw(/usr/sbin /usr/local/sbin)) {
        for my $name (@names) {
            return "$dir/$name" if -x "$dir/$name" && !-d _;
        }
    }
    die "none of @names is installed\n";
}

my %PRCTL = (x86_64 => 157, aarch64 => 167, riscv64 => 167);

sub _exec {
    my ($self, @command) = @_;
    $SIG{$_} = 'DEFAULT' for qw(PIPE CHLD INT TERM HUP QUIT USR1 USR2);
    # Its own session makes every descendant findable, whoever its parent is.
    POSIX::setsid();
    # PR_SET_PDEATHSIG: the server goes down even if the test is killed -9.
    my $prctl = $PRCTL{ (POSIX::uname())[4] };
    syscall $prctl, 1, POSIX::SIGTERM(), 0, 0, 0 if $prctl;
    $ENV{$_} = $self->{env}{$_} for keys %{ $self->{env} };
    $ENV{TMPDIR} = "$self->{prefix}/tmp";
    chdir $self->{prefix};
    open STDIN,  '<',  '/dev/null';
    open STDOUT, '>>', "$self->{prefix}/stderr.log";
    open STDERR, '>&', \*STDOUT;
    no warnings 'exec';
    exec @command;
    POSIX::_exit(127);
}

sub start {
    my ($self) = @_;
    die "server is already running\n" if $self->running;
    for my $try (1 .. 3) {
        $self->write_config;
        my $mark = $self->log_mark;
        my $pid = fork // die "fork: $!\n";
        $self->_exec(@{ $self->{wrap} // [] }, $self->command) if !$pid;
        @$self{qw(pid session started exit_status)} = ($pid, $pid, 1, undef);
        $self->{pids}{$pid} = 1;
        $self->{text_pos} = $mark;
        my $up = eval {
            wait_for(sub { $self->_reap || $self->ready($mark) },
                $self->{start_timeout}, 'the server to start');
        };
        my $error = $@;
        if ($up && !$self->{gone}) {
            $self->{pids}{$_} = 1 for session_pids($self->{session});
            return $self;
        }
        my $log = $self->log_since($mark) . $self->stderr_log;
        $self->_kill_session;
        if ($log =~ /Address already in use/ && $try < 3) {
            my @free = grep { !$self->{pinned}{$_} } keys %{ $self->{ports} };
            if (@free) {
                delete @{ $self->{ports} }{@free};
                # The failed attempt is not the server's fault.
                unlink map {"$self->{prefix}/$_"} qw(error.log stderr.log);
                next;
            }
        }
        $self->{start_failed} = 1;
        die ref($self) . " did not start"
            . ($error ? ": $error" : " (exit status " . ($self->{exit_status} // '?') . ")\n")
            . $log;
    }
}

# True when the server has ended. In daemon mode the process that start() made
# is only the launcher, and the pid file tells about the server.
sub _reap {
    my ($self) = @_;
    return $self->{gone} = !proc_alive($self->{daemon_pid})
        if $self->{daemon_pid};
    return $self->{gone} = 1 unless $self->{pid};
    $self->{gone} = 0;
    my $got = waitpid $self->{pid}, POSIX::WNOHANG();
    return 0 if $got == 0;
    $self->{exit_status} = $got > 0 ? $? : undef;
    if ($self->{daemon} && $got > 0 && $? == 0) {
        wait_for(sub { proc_alive($self->_pid_from_file) }, 5, 'the pid file');
        $self->{pid} = undef;
        $self->{session} = $self->{daemon_pid} = $self->_pid_from_file;
        $self->{pids}{ $self->{session} } = 1;
        return 0;
    }
    $self->{pid} = undef;
    return $self->{gone} = 1;
}

sub _pid_from_file {
    my ($self) = @_;
    return (slurp("$self->{prefix}/run/server.pid") // '') =~ /^(\d+)/ ? $1 : 0;
}

# The pid file names the current master also after a binary upgrade.
sub master_pid {
    my ($self) = @_;
    return $self->_pid_from_file || $self->{daemon_pid} || $self->{pid};
}

sub running {
    my ($self) = @_;
    return $self->{session} && !$self->_reap;
}

sub signal {
    my ($self, $signal) = @_;
    return kill $signal => $self->master_pid;
}

# Seconds until the master had ended. Whatever does not end in time is killed
# and held against the server in finish().
sub stop {
    my ($self, $signal, $timeout) = @_;
    return 0 unless $self->{session};
    $self->{pids}{$_} = 1 for session_pids($self->{session});
    my $from = time;
    $self->signal($signal // $self->stop_signal) if $self->running;
    my $ok = eval {
        wait_for(sub { !$self->running }, $timeout // $self->{stop_timeout},
            'the server to stop');
    };
    my $took = time - $from;
    push @{ $self->{trouble} }, sprintf 'had to be killed after %.1fs', $took
        unless $ok;
    # Orphans get a moment: a worker may end just after its master.
    eval { wait_for(sub { !session_pids($self->{session}) }, 2, 'orphans') }
        if $ok;
    for my $pid ($ok ? session_pids($self->{session}) : ()) {
        push @{ $self->{trouble} }, "left process $pid: " . proc_title($pid);
    }
    $self->_kill_session;
    return $took;
}

sub _kill_session {
    my ($self) = @_;
    my $session = delete $self->{session} or return;
    for (1 .. 500) {
        my @left = session_pids($session) or last;
        kill KILL => @left;
        Time::HiRes::sleep(0.01);
    }
    waitpid $self->{pid}, 0 if $self->{pid};
    delete @$self{qw(pid daemon_pid)};
    unlink "$self->{prefix}/run/server.pid";
    return;
}

# Output and success of a command run like the server itself.
sub _run {
    my ($self, @command) = @_;
    my $pid = open my $out, '-|';
    die "fork: $!\n" unless defined $pid;
    if (!$pid) {
        $ENV{$_} = $self->{env}{$_} for keys %{ $self->{env} };
        open STDIN,  '<', '/dev/null';
        open STDERR, '>&', \*STDOUT;
        no warnings 'exec';
        exec @command;
        POSIX::_exit(127);
    }
    my $text = do { local $/; <$out> } // '';
    close $out;
    return ($? == 0 ? 1 : 0, $text);
}

# --- Logs ---------------------------------------------------------------

sub error_log  { return slurp("$_[0]{prefix}/error.log")  // '' }
sub access_log { return slurp("$_[0]{prefix}/access.log") // '' }
sub stderr_log { return slurp("$_[0]{prefix}/stderr.log") // '' }
sub log_mark   { return -s "$_[0]{prefix}/error.log" || 0 }

sub log_since {
    my ($self, $mark) = @_;
    my $text = $self->error_log;
    return $mark < length $text ? substr $text, $mark : '';
}

# Waits for a line in the error log (from $mark on); returns the match text.
sub wait_log {
    my ($self, $regex, $timeout, $mark) = @_;
    return wait_for(
        sub { $self->log_since($mark // 0) =~ /^(.*$regex.*)$/m ? $1 : undef },
        $timeout // 5, "error log to match $regex");
}

# wait_for that shows on timeout what the server logged meanwhile.
sub _wait_logged {
    my ($self, $mark, @wait) = @_;
    my $value = eval { wait_for(@wait) };
    return $value if $value;
    die $@, $self->log_since($mark),
        map {"process $_: " . proc_title($_) . "\n"}
            session_pids($self->{session});
}

# --- The end ------------------------------------------------------------

# Stops the server and adds one test: nothing bad in the logs, nothing left.
sub finish {
    my ($self) = @_;
    return 1 if $self->{finished}++ || !$self->{started};
    my @bad = $self->_conclude;
    my $name = $self->{name} // 'no alerts in ' . $self->kind . ' error log';
    # Test::More would blame this line instead of the test file.
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $ok = Test::More::ok(!@bad, $name);
    Test::More::diag(join "\n", @bad) unless $ok;
    delete $LIVE{$self};
    return $ok;
}

sub _conclude {
    my ($self) = @_;
    $self->stop;
    my $allow = $self->{allow};
    my $bad = $self->bad_log;
    my @lines = grep { $_ =~ $bad || $_ =~ $MEMORY_TROUBLE }
        split /\n/, $self->error_log;
    push @lines, grep { $_ =~ $MEMORY_TROUBLE || $_ =~ $bad }
        split /\n/, $self->stderr_log;
    # A failed start has died in the test already.
    @lines = () if $self->{start_failed};
    @lines = grep { $_ !~ $allow } @lines if $allow;
    my %seen;
    return (@{ $self->{trouble} }, $self->leftovers,
        grep { !$seen{$_}++ } @lines);
}

# Shared memory made by this server's processes that is still there.
sub leftovers {
    my ($self) = @_;
    my @found = map {"left shared memory $_"} glob '/dev/shm/*edgespan*';
    my ($head, @rows) = split /\n/, slurp('/proc/sysvipc/shm') // '';
    for (@rows) {
        my @col = split ' ';
        push @found, "left System V shared memory $col[1]"
            if $self->{pids}{ $col[4] };
    }
    ($head, @rows) = split /\n/, slurp('/proc/sysvipc/sem') // '';
    for (@rows) {
        my @col = split ' ';
        # GETPID: who operated it last; its creator when nobody did.
        my $pid = semctl($col[1], 0, 11, 0) // next;
        push @found, "left System V semaphore $col[1]"
            if $self->{pids}{ 0 + $pid };
    }
    return @found;
}

sub DESTROY {
    my ($self) = @_;
    return unless $self->{owner} && $self->{owner} == $$;
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT';
    local ($@, $!, $?);
    eval { $self->finish; 1 } or warn $@;
    delete $LIVE{$self};
}

# A test that ends early still stops its servers and fails on their alerts,
# though no further test can be counted by now.
at_end(1, sub {
    my $status = $?;
    for my $self (grep { $_ && $_->{owner} == $$ } values %LIVE) {
        next if $self->{finished}++ || !$self->{started};
        my @bad = $self->_conclude;
        next unless @bad;
        Test::More::diag(join "\n",
            $self->kind . ' left running by the test:', @bad);
        $status ||= 1;
    }
    $? = $status;
});

1;
