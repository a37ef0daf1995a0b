# Runs the host's commands, many at once. It is the guest's first process, so it also reaps orphans.
# The virtio port "lab" carries frames both ways: command id (u32), kind (a letter), length (u32), that many bytes.
#   from the host: R run (the script, then KEY=VALUE strings, each after its length as u32), I input (empty: its end), K kill
#   to the host:   H hello (what went wrong at start, or nothing), O output, E error output, X ended (exit code in decimal)
use strict;
use warnings;

use constant {
    PIDFD_OPEN => 434,      # system call, the same number on every architecture
    WNOHANG    => 1,
    CHUNK      => 65536,    # what a pipe holds
    PIPE_BUF   => 4096,     # what a pipe that select() calls writable takes without blocking
};

my ($pf_driver) = @ARGV;
my (%commands, %readers, %writers);
my $received = '';

sub contents { my ($path) = @_; open my $file, '<', $path or return ''; local $/; return readline $file }

my ($name) = grep { contents($_) eq "lab\n" } glob '/sys/class/virtio-ports/*/name';
my ($device) = $name =~ m{([^/]+)/name$};
open my $port, '+<', "/dev/$device" or die "Cannot open /dev/$device: $!";

sub send_frame {
    my ($id, $kind, $bytes) = @_;
    my $frame = pack 'N a N/a*', $id, $kind, $bytes;
    while (length $frame) {
        my $sent = syswrite $port, $frame;
        substr $frame, 0, $sent, '' if defined $sent;
    }
}

sub watch   { my ($set, $handle, $action) = @_; $set->{ fileno $handle } = $action }
sub unwatch { my ($set, $handle) = @_; delete $set->{ fileno $handle } }

sub bits {
    my ($set) = @_;
    my $bits = '';
    vec($bits, $_, 1) = 1 for keys %$set;
    return $bits;
}

sub start {
    my ($id, $script, @environment) = @_;
    pipe my $input,    my $to_input or die "pipe: $!";
    pipe my $from_out, my $output   or die "pipe: $!";
    pipe my $from_err, my $error    or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        setpgrp;
        $SIG{PIPE} = 'DEFAULT';
        open STDIN,  '<&', $input;
        open STDOUT, '>&', $output;
        open STDERR, '>&', $error;
        chdir '/root';
        for (@environment) { my ($key, $value) = split /=/, $_, 2; $ENV{$key} = $value }
        exec '/bin/bash', '-c', $script;
        die "Cannot start bash: $!\n";
    }
    # A pidfd becomes readable when its process ends: unlike SIGCHLD this cannot fall between waitpid and select.
    open my $end, '<&=', syscall(PIDFD_OPEN, $pid, 0) or die "pidfd_open: $!";
    watch(\%readers, $end, sub { });
    my %outputs = (O => $from_out, E => $from_err);
    for my $kind (keys %outputs) {
        watch(\%readers, $outputs{$kind}, sub { pass_on($id, $kind, $outputs{$kind}) });
    }
    $commands{$pid} = { id => $id, end => $end, outputs => \%outputs, to_input => $to_input, input => '' };
}

sub pass_on {
    my ($id, $kind, $handle) = @_;
    my $count = sysread $handle, my $bytes, CHUNK;
    if   ($count) { send_frame($id, $kind, $bytes) }
    else          { unwatch(\%readers, $handle) }
}

# Daemons that the command leaves behind may hold its outputs open: what is in the pipes now is all that gets passed on.
sub finish {
    my ($pid, $status) = @_;
    my $command = delete $commands{$pid} // return;
    for my $kind (sort keys %{ $command->{outputs} }) {
        my $handle = $command->{outputs}{$kind};
        vec(my $ready = '', fileno $handle, 1) = 1;
        pass_on($command->{id}, $kind, $handle) if select $ready, undef, undef, 0;
        unwatch(\%readers, $handle);
    }
    unwatch(\%readers, $command->{end});
    unwatch(\%writers, $command->{to_input}) if $command->{to_input};
    # As a shell says it: 128 plus the number of the signal.
    send_frame($command->{id}, 'X', $status & 127 ? 128 + ($status & 127) : $status >> 8);
}

sub feed {
    my ($command, $bytes) = @_;
    my $handle = $command->{to_input} // return;
    $command->{input} .= $bytes;
    $command->{at_end} ||= $bytes eq '';
    watch(\%writers, $handle, sub {
        my $sent = syswrite $handle, $command->{input}, PIPE_BUF;
        substr $command->{input}, 0, $sent, '' if $sent;
        return if defined $sent && length $command->{input};
        unwatch(\%writers, $handle);
        delete $command->{to_input} if $command->{at_end} || !defined $sent;
    });
}

sub receive {
    sysread $port, $received, CHUNK, length $received or return;
    while (length $received >= 9) {
        my ($id, $kind, $length) = unpack 'N a N', $received;
        last if length $received < 9 + $length;
        my $bytes = substr $received, 9, $length;
        substr $received, 0, 9 + $length, '';
        if ($kind eq 'R') { start($id, unpack '(N/a*)*', $bytes); next }
        my ($pid) = grep { $commands{$_}{id} == $id } keys %commands or next;
        if   ($kind eq 'I') { feed($commands{$pid}, $bytes) }
        else                { kill KILL => -$pid }
    }
}

$SIG{PIPE} = 'IGNORE';
$SIG{CHLD} = sub { };    # interrupts select(), so that orphans are reaped as well
# The shell before us may have seen its end already: what counts is whether the driver is there.
waitpid $pf_driver, 0 if $pf_driver;
my $failure = $pf_driver && !-d "/sys/bus/pci/drivers/igb" ? "the PF driver is not loaded" : "";
watch(\%readers, $port, \&receive);
send_frame(0, 'H', $failure);

while (1) {
    my ($readable, $writable) = (bits(\%readers), bits(\%writers));
    if (select($readable, $writable, undef, undef) > 0) {
        for (grep { vec $readable, $_, 1 } keys %readers) { ($readers{$_} // next)->() }
        for (grep { vec $writable, $_, 1 } keys %writers) { ($writers{$_} // next)->() }
    }
    while ((my $pid = waitpid -1, WNOHANG) > 0) { finish($pid, $?) }
}
